#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "chainrule/network.hpp"
#include "chainrule/step_threads.hpp"

namespace chainrule {

/// Which random numbers decide what drops out in a batch: those of samples `first`, `first` + 1, … of a stream, or of
/// those at `places`. Masks depend on nothing else: neither on threads nor on how samples make batches.
struct MaskDraw {
  std::uint64_t seed, stream;
  Index first;
  const Index* places = nullptr;

  Index sample(Index r) const { return places ? places[r] : first + r; }
  /// For the samples of the batch from `row` on.
  MaskDraw from(Index row) const { return {seed, stream, first + row, places ? places + row : nullptr}; }
};

/// What a tape keeps beside all the a_l and δ_l of the layers.
struct TapeContents {
  bool inputs = true;            // a_0; steps on inputs that are mostly zeros read them where they are
  bool pre_activations = false;  // z_l of all layers
};

/// What one batch leaves behind on its way forward and back: a_0 … a_L, and δ_1 … δ_L with δ_l = dL/dz_l.
///
/// z_l is kept where σ'_l cannot be had from a_l, for the output (losses start from the logits), and for all layers on
/// request. In layers with dropout the mask m_l is kept, and a_l ⊙ m_l beside a_l. A tape is allocated once for up to
/// `capacity` rows and is used again for every batch that fits.
///
/// Beside each a_l stands a column of ones, which makes the bias one more row of W_l. Rows are padded to a pitch that
/// is a whole number of registers and not a multiple of 512 bytes, at which the first-level cache would hold only a
/// few of them.
template <class T>
class Tape {
 public:
  Tape(const Network<T>& network, Index capacity, TapeContents contents = {});

  Index capacity() const { return capacity_; }
  /// Whether it was laid out for layers like these.
  bool is_for(const Network<T>& network) { return network.id() == network_id_ || has_layers_of(network); }
  bool fits(Index rows, TapeContents contents = {}) const {
    return rows <= capacity_ && (contents_.inputs || !contents.inputs) &&
           (contents_.pre_activations || !contents.pre_activations);
  }
  /// Memory that it takes.
  std::size_t bytes() const {
    return static_cast<std::size_t>(memory_.size() + row_weight_.size() + loss_parameter_.size() + panels_.size()) *
               sizeof(T) +
           static_cast<std::size_t>(row_loss_.size()) * sizeof(double);
  }
  /// Bytes of a tape for each of its rows.
  static double row_bytes(const Network<T>& network, TapeContents contents = {});
  Index rows() const { return rows_; }  // n, of the batch that it holds
  void set_rows(Index rows) { rows_ = rows; }

  MatrixView<T> activation(Index l) { return view(activations_[l]); }          // a_l, (n, d_l), l = 0 … L
  MatrixView<T> pre_activation(Index l) { return view(pre_activations_[l]); }  // z_l, (n, d_l), l = 1 … L
  MatrixView<T> delta(Index l) { return view(deltas_[l]); }                    // δ_l, (n, d_l), l = 1 … L
  bool has_pre_activation(Index l) const { return pre_activations_[l].pitch > 0; }

  /// What goes on to layer l + 1, (n, d_l): a_l, or a_l ⊙ m_l where units of layer l drop out.
  MatrixView<T> passed_on(Index l) { return drops_out(l) ? view(thinned_[l]) : activation(l); }
  /// m_l, (n, d_l): 0, or 1 / (1 - dropout) for a dropout that is rounded to a multiple of 2⁻¹⁶.
  MatrixView<T> mask(Index l) { return view(masks_[l]); }
  bool drops_out(Index l) const { return draw_ && masks_[l].pitch > 0; }
  /// What the next batch's masks are drawn from; without, nothing drops out.
  void set_draw(std::optional<MaskDraw> draw) { draw_ = draw; }
  const std::optional<MaskDraw>& draw() const { return draw_; }
  /// Draws rows × columns of m_l and of a_l ⊙ m_l; both ranges from their first to behind their last.
  void drop_out(Index l, Index first_row, Index last_row, Index first_column, Index last_column);

  MatrixView<T> target() { return view(targets_[0]); }    // y, (n, d_L): labels as one-hot rows
  T* row_weight() { return row_weight_.data(); }          // (n,), of each sample's loss in the batch's
  double* row_loss() { return row_loss_.data(); }         // (n,)
  T* loss_parameter() { return loss_parameter_.data(); }  // (d_L,)

  // The weights as the kernels read them best, scratch of one step; large networks do without, that is, with nullptr.
  bool has_panels() const { return has_panels_; }
  T* weight_panels(Index l) { return has_panels_ ? panels_.data() + weight_panels_[l] : nullptr; }
  T* transposed_panels(Index l) { return has_panels_ ? panels_.data() + transposed_panels_[l] : nullptr; }

  /// Whether small steps on this tape have been faster on one thread or on several.
  StepThreads& step_threads() { return step_threads_; }

 private:
  bool has_layers_of(const Network<T>& network);
  template <class Make>
  static void for_each_matrix(const Network<T>& network, TapeContents contents, const Make& place);

  /// Random numbers decide on so many units at a time.
  static constexpr Index mask_block = 8;

  struct Place {
    Index offset = 0, columns = 0, pitch = 0;
  };
  MatrixView<T> view(const Place& p) {
    return {memory_.data() + p.offset, rows_, p.columns, Eigen::OuterStride<>(p.pitch)};
  }

  std::uint64_t network_id_ = 0;  // of the network whose layers were last compared
  Index capacity_;
  Index rows_ = 0;
  TapeContents contents_;
  bool has_panels_;
  std::vector<Place> activations_, pre_activations_, deltas_, thinned_, masks_, targets_;
  std::optional<MaskDraw> draw_;
  std::vector<double> dropout_;
  std::vector<Index> mask_blocks_;  // of the layers before l; behind the last, of all
  std::vector<Index> weight_panels_, transposed_panels_;
  Buffer<T> memory_, row_weight_, loss_parameter_, panels_;
  Buffer<double> row_loss_;
  StepThreads step_threads_;
};

/// How many rows of a batch a step takes at a time: all of them; or, where there are many, parts whose tape stays in
/// the caches, or which at least are enough rows for what each part costs. It depends on nothing else: not on threads
/// or processors.
template <class T>
Index rows_at_a_time(const Network<T>& network, Index rows, TapeContents contents = {});

extern template class Tape<float>;
extern template class Tape<double>;

}  // namespace chainrule
