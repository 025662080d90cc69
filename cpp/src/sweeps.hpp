#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>

#include "chainrule/sparse_columns.hpp"
#include "chainrule/tape.hpp"
#include "layer.hpp"
#include "weight_tiles.hpp"

namespace chainrule {

template <class T>
struct SweepOptions {
  bool logits_only = false;          // leaves out the output's activation, which a loss from the logits does without
  bool without_output = false;       // ends the way forward before the last layer
  const Batch<T>* sparse = nullptr;  // takes the place of a_0 on the tape
  bool one_thread = false;           // whatever there is to do
  T bound = 0;                       // unless 0, the first sweep looks for numbers that exceed it; a NaN does
};

template <class T>
void load_inputs(const Batch<T>& batch, Range rows, Rows<T> a0) {
  for (Index r = rows.begin; r < rows.end; ++r) batch.samples.X.load(batch.row(r), a0.row(r));
}

/// With scale · w_i, which T may hold where it does not hold the scale alone.
template <class T>
void load_targets(const Batch<T>& batch, double scale, Range rows, Tape<T>& tape) {
  const Rows<T> target = rows_of(tape.target());
  const Index columns = tape.target().cols();
  for (Index r = rows.begin; r < rows.end; ++r) batch.samples.y.load(batch.row(r), columns, target.row(r));
  for (Index r = rows.begin; r < rows.end; ++r)
    tape.row_weight()[r] = static_cast<T>(scale * static_cast<double>(batch.weight(r)));
}

/// The two sweeps over the batch on a tape.
template <class T>
class Sweeps {
 public:
  Sweeps(const Network<T>& network, Tape<T>& tape, const SweepOptions<T>& options = {})
      : network_(network),
        tape_(tape),
        depth_(network.depth()),
        rows_(tape.rows()),
        threads_(options.one_thread ? 1 : threads_for(forward_operations(network, rows_))),
        chunks_(chunk_count<T>(rows_, threads_)),
        options_(options),
        packed_(tape.has_panels() && chunks_ > 1) {}
  bool sparse() const { return options_.sparse; }
  /// Whether no number exceeded the bound.
  bool all_within() const { return all_within_; }

  /// The first sweep's way forward, from X.
  void forward(const Inputs<T>& X) {
    const Rows<T> a0 = rows_of(tape_.activation(0));
    by_rows(
        [&](Range rows) {
          for (Index r = rows.begin; r < rows.end; ++r) X.load(r, a0.row(r));
        },
        nullptr);
  }

  /// The first sweep: `load` the rows and take them forward, then to δ_L by `output` and back to δ_1; either half may
  /// be left out by a nullptr.
  template <class Load, class Output>
  void by_rows(const Load& load, const Output& output) {
    constexpr bool forward = !std::is_null_pointer_v<Load>, backward = !std::is_null_pointer_v<Output>;
    const Index last = options_.without_output ? depth_ - 1 : depth_;
    const auto load_chunk = [&](Range rows) {
      if constexpr (forward) {
        load(rows);
        if (options_.bound > 0)
          see(0, sparse() ? stored_beyond_bound(rows)
                          : kernel_.largest(rows.size(), network_.inputs(), rows_of(tape_.activation(0), rows.begin)));
      }
    };
    const auto output_chunk = [&](Range rows) {
      if constexpr (backward) output(rows);
    };
    if (!tape_.has_panels()) {
      in_chunks(load_chunk);
      for (Index l = 1; forward && l <= last; ++l)
        in_forward_blocks(network_, l, rows_, threads_, options_.logits_only && l == depth_,
                          [&](Range rows, Range columns) { forward_layer(l, rows, columns); });
      in_chunks(output_chunk);
      for (Index l = depth_; backward && l > 1; --l)
        in_blocks<T>(rows_, network_.units(l - 1), threads_,
                     [&](Range rows, Range columns) { backward_layer(l, rows, columns); });
      return;
    }
    if (packed_)
      pack_weights(
          network_, network_.parameters().data(), threads_,
          [&](Index l) { return forward && l <= last ? weight_panels(l) : nullptr; },
          [&](Index l) { return backward && l > 1 ? tape_.transposed_panels(l) : nullptr; });
    in_chunks([&](Range rows) {
      load_chunk(rows);
      for (Index l = 1; forward && l <= last; ++l) forward_layer(l, rows, {0, network_.units(l)});
      output_chunk(rows);
      for (Index l = depth_; backward && l > 1; --l) backward_layer(l, rows, {0, network_.units(l - 1)});
    });
  }

  /// δ_L of some rows from the loss, whose values go to the tape.
  void output_from_loss(const Loss& loss, Range rows) {
    const Rows<T> x = rows_of(from_logits(loss) ? tape_.pre_activation(depth_) : tape_.activation(depth_), rows.begin);
    const Rows<T> delta = rows_of(tape_.delta(depth_), rows.begin);
    kernel_.loss[loss.index()](rows.size(), network_.outputs(), x, rows_of(tape_.target(), rows.begin),
                               tape_.loss_parameter(), tape_.row_weight() + rows.begin, tape_.row_loss() + rows.begin,
                               delta);
    if (!from_logits(loss))
      times_derivative(depth_, rows, {0, network_.outputs()});
    else if (options_.bound > 0)
      see(depth_, kernel_.largest(rows.size(), network_.outputs(), delta));
  }

  /// δ_L of some rows from dL/da_L, which the tape holds in its place.
  void output_from_gradient(Range rows) { times_derivative(depth_, rows, {0, network_.outputs()}); }

  /// dL/dX = δ_1 W_1ᵀ, (n, d_0)
  void input_gradient(Rows<T> to) {
    in_blocks<T>(rows_, network_.inputs(), threads_, [&](Range rows, Range columns) {
      Weights<T>{network_, 1, nullptr}.backward(rows.size(), rows_of(tape_.delta(1), rows.begin), columns,
                                                to.from(rows.begin).columns_from(columns.begin));
    });
  }

  /// The second sweep: [dW_l; db_l] = [a_{l-1} 1]ᵀ δ_l tile by tile, each announced by prepare(l, rows, columns),
  /// if the parameters are far, and given to use(l, rows, columns, tile).
  template <class Prepare, class Use>
  void by_weights(const Prepare& prepare, const Use& use) {
    if (sparse()) sparse_weights(prepare, use);
    parallel_over_stacks(network_, sparse() ? 2 : 1, threads_, [&](Index l, Range tiles, Range columns) {
      weight_tiles<T>(
          {{tape_.passed_on(l - 1), tape_.delta(l)}}, tiles, columns, far_parameters(network_),
          [&](Range rows, Range across) { prepare(l, rows, across); },
          [&](Range rows, Range across, Rows<T> tile) { use(l, rows, across, tile); });
    });
  }

 private:
  typename Inputs<T>::Stored sparse_row(Index r) const {
    return options_.sparse->samples.X.stored(options_.sparse->row(r));
  }

  /// The size of a number of these rows that exceeds the bound, or 0.
  T stored_beyond_bound(Range rows) const {
    for (Index r = rows.begin; r < rows.end; ++r) {
      const auto x = sparse_row(r);
      for (Index k = 0; k < x.count; ++k)
        if (const T size = std::abs(x.values[k]); !(size <= options_.bound)) return size;
    }
    return 0;
  }

  /// The second sweep's [dW_1; db_1] = [x 1]ᵀ δ_1 for sparse x: each row is a sum of the rows of δ_1 whose samples have
  /// a number in that column.
  template <class Prepare, class Use>
  void sparse_weights(const Prepare& prepare, const Use& use) {
    constexpr Index block_numbers = first_level<T>, widest_block = 512;
    const Index units = network_.units(1), all_rows = network_.inputs() + 1;
    const Index across = parts_of(units, widest_block);
    const Index wide = pitch<T>(parts_of(units, across)), most_rows = block_numbers / wide;
    const Index down = threads_ > 1 ? std::min<Index>(all_rows, 2 * threads_) : 1;
    const MatrixView<T> delta = tape_.delta(1);
    parallel(down * across, threads_, [&](std::ptrdiff_t i) {
      const engine::Cell at = engine::cell(i, across);
      const Range all = part(all_rows, down, at.row), columns = part(units, across, at.column);
      thread_local SparseColumns<T> found;
      if (!options_.sparse->columns) found.load(*options_.sparse, all.begin, all.end);
      const SparseColumns<T>& x = options_.sparse->columns ? *options_.sparse->columns : found;
      for (Index first = all.begin; first < all.end; first += most_rows) {
        const Range rows{first, std::min(first + most_rows, all.end)};
        if (far_parameters(network_)) prepare(1, rows, columns);
        alignas(64) T memory[block_numbers];
        std::fill_n(memory, rows.size() * wide, T(0));
        const Rows<T> block{memory, wide};
        for (Index row = rows.begin; row < rows.end; ++row)
          kernel_.gather_rows(x.count(row), x.samples(row), x.values(row), columns.size(), delta.data() + columns.begin,
                              delta.outerStride(), block.row(row - rows.begin));
        use(1, rows, columns, block);
      }
    });
  }

  /// Room for W_l rearranged, where that pays.
  T* weight_panels(Index l) {
    return (l > 1 || !sparse()) && worth_packing(network_, l, rows_) ? tape_.weight_panels(l) : nullptr;
  }

  template <class Chunk>
  void in_chunks(const Chunk& chunk) {
    parallel(chunks_, threads_, [&](std::ptrdiff_t i) { chunk(part(rows_, chunks_, i)); });
  }

  /// a_l = σ_l([a_{l-1} 1] [W_l; b_l])
  void forward_layer(Index l, Range rows, Range columns) {
    const Weights<T> weights{network_, l, packed_ ? weight_panels(l) : nullptr};
    const Rows<T> a = rows_of(tape_.activation(l), rows.begin);
    const Rows<T> z = tape_.has_pre_activation(l) ? rows_of(tape_.pre_activation(l), rows.begin) : a;
    const Rows<T> before = rows_of(tape_.passed_on(l - 1), rows.begin);
    layer_forward<T>(
        network_, l, rows.size(), columns, z, a, options_.logits_only && l == depth_,
        [&](Rows<T> to) {
          if (l > 1 || !sparse()) return weights.forward(rows.size(), before, columns, to);
          for (Index r = 0; r < rows.size(); ++r)
            sparse_product<T>(network_, sparse_row(rows.begin + r), columns, to.row(r));
        },
        [&](T largest) {
          if (l < depth_) see(l, largest);
        });
    if (tape_.drops_out(l)) tape_.drop_out(l, rows.begin, rows.end, columns.begin, columns.end);
  }

  /// δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}
  void backward_layer(Index l, Range rows, Range columns) {
    Weights<T>{network_, l, packed_ ? tape_.transposed_panels(l) : nullptr}.backward(
        rows.size(), rows_of(tape_.delta(l), rows.begin), columns,
        rows_of(tape_.delta(l - 1), rows.begin).columns_from(columns.begin));
    times_derivative(l - 1, rows, columns);
    if (tape_.drops_out(l - 1)) times_mask(l - 1, rows, columns);
  }

  /// The largest |a_l| or |δ_l| of a part, before units drop out.
  void see(Index l, T largest) {
    if (tape_.drops_out(l)) largest /= static_cast<T>(1 - network_.dropout(l));  // as the mask multiplies, nearly
    if (options_.bound > 0 && !(largest <= options_.bound)) all_within_.store(false, std::memory_order_relaxed);
  }

  /// δ_l ← δ_l ⊙ m_l
  void times_mask(Index l, Range rows, Range columns) {
    const Rows<T> delta = rows_of(tape_.delta(l)), mask = rows_of(tape_.mask(l));
    for (Index r = rows.begin; r < rows.end; ++r)
      for (Index c = columns.begin; c < columns.end; ++c) delta.row(r)[c] *= mask.row(r)[c];
  }

  /// δ_l ← δ_l ⊙ σ'_l
  void times_derivative(Index l, Range rows, Range columns) {
    const Activation& activation = network_.activation(l);
    const auto part_of = [&](MatrixView<T> m) { return rows_of(m, rows.begin).columns_from(columns.begin); };
    const Rows<T> delta = part_of(tape_.delta(l));
    if (std::holds_alternative<Identity>(activation)) {
      if (options_.bound > 0) see(l, kernel_.largest(rows.size(), columns.size(), delta));
      return;
    }
    const Rows<T> a = part_of(tape_.activation(l));
    const Rows<T> z = tape_.has_pre_activation(l) ? part_of(tape_.pre_activation(l)) : a;
    see(l, kernel_.times_derivative[activation.index()](rows.size(), columns.size(), z, a, delta,
                                                        static_cast<T>(parameter(activation))));
  }

  const Network<T>& network_;
  Tape<T>& tape_;
  const Kernels<T>& kernel_ = kernels<T>();
  Index depth_, rows_;
  // The same in both sweeps: where one thread is enough for one of them, the other's would fetch from its cache what
  // they need, and leave theirs there.
  int threads_;
  Index chunks_;
  SweepOptions<T> options_;
  bool packed_;  // the weights, once for all chunks
  std::atomic<bool> all_within_{true};
};

}  // namespace chainrule
