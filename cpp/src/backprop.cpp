#include "chainrule/backprop.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include "chainrule/sparse_columns.hpp"
#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"
#include "layout.hpp"
#include "tensor_sums.hpp"
#include "weight_tiles.hpp"

namespace chainrule {

namespace {

using engine::Kernels;
using engine::kernels;
using engine::Panels;
using engine::parallel;
using engine::part;
using engine::parts_of;
using engine::Range;
using engine::Rows;
using engine::threads_for;

/// Floating-point operations of a forward pass: two for each weight and row. The two products of the backward pass take
/// as many each.
template <class T>
double forward_operations(const Network<T>& network, Index rows) {
  return 2.0 * static_cast<double>(network.parameter_count()) * static_cast<double>(rows);
}

/// Rows are cut into chunks that stay in the caches on their way through the layers, as many for each thread.
template <class T>
Index chunk_count(Index rows, int threads) {
  const Index largest = 4 * kernels<T>().tile_rows;
  const Index chunks = parts_of(rows, largest);
  // Four for each thread even out what else the machine does; less than a tile's rows would cost more than that.
  const Index even = std::min<Index>(4 * threads, rows / kernels<T>().tile_rows);
  const Index wanted = threads > 1 ? std::max(chunks, even) : chunks;
  return std::min(rows, parts_of(wanted, threads) * threads);
}

/// Few rows read each weight but a few times, and few weights stay in the first-level cache as they lie: then
/// rearranging the weights of layer l first does not pay.
template <class T>
bool worth_packing(const Network<T>& network, Index l, Index rows) {
  constexpr Index near = 32 * 1024 / sizeof(T);
  return rows > 2 * kernels<T>().tile_rows && network.units(l - 1) * network.units(l) > near;
}

template <class T>
Panels<T> packed(const T* panels, Index k) {
  return {panels, kernels<T>().panel, k * kernels<T>().panel};
}

/// The products with the weights of layer l find them rearranged in `panels`, or where they lie.
template <class T>
struct Weights {
  const Network<T>& network;
  Index l;
  const T* panels;  // or nullptr
  bool large;       // too large to be rearranged as a whole

  /// Columns of z_l = [a_{l-1} 1] [W_l; b_l]
  void forward(Index count, Rows<const T> a, Range columns, Rows<T> z) const {
    const Kernels<T>& kernel = kernels<T>();
    const Index k = network.units(l - 1) + 1, units = network.units(l);
    const T* weight = network.weight(l).data() + columns.begin;
    if (panels)
      kernel.multiply(count, columns.size(), k, a.data, a.pitch, 1, packed<T>(panels + columns.begin * k, k), z, false);
    else if (large && worth_packing(network, l, count))
      kernel.multiply_large(count, columns.size(), k, a.data, a.pitch, weight, units, z, false);
    else
      kernel.multiply(count, columns.size(), k, a.data, a.pitch, 1, {weight, units, kernel.panel}, z, false);
  }

  /// Columns of dL/da_{l-1} = δ_l W_lᵀ, with the panels of W_lᵀ.
  void backward(Index count, Rows<const T> delta, Range columns, Rows<T> to) const {
    const Kernels<T>& kernel = kernels<T>();
    const Index k = network.units(l);
    if (panels)
      kernel.multiply(count, columns.size(), k, delta.data, delta.pitch, 1, packed<T>(panels + columns.begin * k, k),
                      to, false);
    else
      kernel.multiply_large_transposed(count, columns.size(), k, delta.data, delta.pitch,
                                       network.weight(l).data() + columns.begin * k, k, to, false);
  }
};

/// Rows to take through a product and the element-wise function behind it at a time: as many as one tile has, so that
/// the first-level cache still holds them, unless the weights have to come from afar for each.
template <class T>
Index strip_count(const Network<T>& network, Index rows, Index weights) {
  constexpr Index near = 512 * 1024 / sizeof(T);
  return !fits_packed<T>(network) || weights > near ? 1 : parts_of(rows, kernels<T>().tile_rows);
}

/// Columns of a_l = σ_l(z_l), with z_l from `product` strip by strip. z and a may be the same memory; with `linear` a
/// is not written. Gives the largest |a_l| of each strip to `see`.
template <class T, class Product, class See>
void layer_forward(const Network<T>& network, Index l, Index count, Range columns, Rows<T> z, Rows<T> a, bool linear,
                   const Product& product, const See& see) {
  const Activation& activation = network.activation(l);
  const auto activate = kernels<T>().activate[activation.index()];
  const auto parameter_ = static_cast<T>(parameter(activation));
  const Index strips = strip_count(network, count, columns.size() * network.units(l - 1));
  for (Index s = 0; s < strips; ++s) {
    const Range strip = part(count, strips, s);
    const Rows<T> z_strip = z.from(strip.begin).columns_from(columns.begin);
    product(strip, z_strip);
    if (!linear)
      see(activate(strip.size(), columns.size(), z_strip, a.from(strip.begin).columns_from(columns.begin), parameter_));
  }
  if (columns.end == network.units(l))
    for (Index r = 0; r < count; ++r) a.row(r)[columns.end] = T(1);
}

/// Columns of z_1 = x W_1 + b_1 for one sparse sample x.
template <class T>
void sparse_product(const Network<T>& network, typename Inputs<T>::Stored x, Range columns, T* z) {
  std::copy_n(network.bias(1).data() + columns.begin, columns.size(), z);
  kernels<T>().gather_rows(x.count, x.columns, x.values, columns.size(), network.weight(1).data() + columns.begin,
                           network.units(1), z);
}

/// The columns' parameters of a loss: δ of Huber's, τ of the quantiles.
template <class T>
void fill_loss_parameters(const Loss& loss, Index outputs, T* to) {
  const std::vector<double> values = parameters(loss);
  if (values.empty()) return;
  for (Index j = 0; j < outputs; ++j) to[j] = static_cast<T>(values[static_cast<std::size_t>(j) % values.size()]);
}

/// What a mean divides by: the sum of the samples' weights, times the outputs.
double mean_divisor(const Loss& loss, Index outputs, double weight) {
  return sum_over_outputs(loss) ? weight : weight * static_cast<double>(outputs);
}

/// The two sweeps over the batch on a tape.
template <class T>
class Sweeps {
 public:
  /// With `logits_only` the output's activation is left out: a loss from the logits does without. A `sparse` batch
  /// takes the place of a_0 on the tape.
  Sweeps(const Network<T>& network, Tape<T>& tape, bool logits_only = false, const Batch<T>* sparse = nullptr)
      : network_(network),
        tape_(tape),
        depth_(network.depth()),
        rows_(tape.rows()),
        threads_(threads_for(forward_operations(network, rows_))),
        logits_only_(logits_only),
        sparse_(sparse) {}
  bool sparse() const { return sparse_; }

  /// Lets the first sweep look for numbers that exceed the bound; a NaN does.
  void watch(T bound) { bound_ = bound; }
  bool all_within() const { return all_within_; }

  /// The first sweep: `load` the rows and take them forward, then to δ_L by `output` and back to δ_1; either half may
  /// be left out by a nullptr.
  template <class Load, class Output>
  void by_rows(const Load& load, const Output& output) {
    constexpr bool forward = !std::is_null_pointer_v<Load>, backward = !std::is_null_pointer_v<Output>;
    const auto load_chunk = [&](Range rows) {
      if constexpr (forward) {
        load(rows);
        if (bound_ > 0 && !sparse_)
          see(0, kernel_.largest(rows.size(), network_.inputs(), rows_of(tape_.activation(0), rows.begin)));
      }
    };
    const auto output_chunk = [&](Range rows) {
      if constexpr (backward) output(rows);
    };
    if (!tape_.has_panels()) {
      in_chunks(load_chunk);
      for (Index l = 1; forward && l <= depth_; ++l)
        in_blocks(network_.units(l), [&](Range rows, Range columns) { forward_layer(l, rows, columns); });
      in_chunks(output_chunk);
      for (Index l = depth_; backward && l > 1; --l)
        in_blocks(network_.units(l - 1), [&](Range rows, Range columns) { backward_layer(l, rows, columns); });
      return;
    }
    pack(forward, backward ? 2 : depth_ + 1);
    in_chunks([&](Range rows) {
      load_chunk(rows);
      for (Index l = 1; forward && l <= depth_; ++l) forward_layer(l, rows, {0, network_.units(l)});
      output_chunk(rows);
      for (Index l = depth_; backward && l > 1; --l) backward_layer(l, rows, {0, network_.units(l - 1)});
    });
  }

  /// δ_L of some rows from the loss, whose values go to the tape.
  void output_from_loss(const Loss& loss, double divisor, Range rows) {
    const Rows<T> x = rows_of(from_logits(loss) ? tape_.pre_activation(depth_) : tape_.activation(depth_), rows.begin);
    const Rows<T> delta = rows_of(tape_.delta(depth_), rows.begin);
    kernel_.loss[loss.index()](rows.size(), network_.outputs(), x, rows_of(tape_.target(), rows.begin),
                               tape_.loss_parameter(), static_cast<T>(1 / divisor), tape_.row_weight() + rows.begin,
                               tape_.row_loss() + rows.begin, delta);
    if (!from_logits(loss))
      times_derivative(depth_, rows, {0, network_.outputs()});
    else if (bound_ > 0)
      see(depth_, kernel_.largest(rows.size(), network_.outputs(), delta));
  }

  /// δ_L of some rows from dL/da_L, which the tape holds in its place.
  void output_from_gradient(Range rows) { times_derivative(depth_, rows, {0, network_.outputs()}); }

  /// dL/dX = δ_1 W_1ᵀ
  void input_gradient(Rows<T> to) {
    in_blocks(network_.inputs(), [&](Range rows, Range columns) {
      Weights<T>{network_, 1, nullptr, true}.backward(rows.size(), rows_of(tape_.delta(1), rows.begin), columns,
                                                      to.from(rows.begin).columns_from(columns.begin));
    });
  }

  /// The second sweep: [dW_l; db_l] = [a_{l-1} 1]ᵀ δ_l tile by tile, each announced by prepare(l, rows, columns),
  /// if the parameters are far, and given to use(l, rows, columns, tile).
  template <class Prepare, class Use>
  void by_weights(const Prepare& prepare, const Use& use) {
    if (sparse_) sparse_weights(prepare, use);
    parallel_over_units(network_, sparse_ ? 2 : 1, threads_, [&](Index l, Range tiles, Range columns) {
      weight_tiles<T>(
          tape_.passed_on(l - 1), tape_.delta(l), tiles, columns, far_parameters(),
          [&](Range rows, Range across) { prepare(l, rows, across); },
          [&](Range rows, Range across, Rows<T> tile) { use(l, rows, across, tile); });
    });
  }

 private:
  typename Inputs<T>::Stored sparse_row(Index r) const { return sparse_->samples.X.stored(sparse_->row(r)); }

  /// The second sweep's [dW_1; db_1] = [x 1]ᵀ δ_1 for sparse x: each row is a sum of the rows of δ_1 whose samples have
  /// a number in that column.
  template <class Prepare, class Use>
  void sparse_weights(const Prepare& prepare, const Use& use) {
    const Index units = network_.units(1), all_rows = network_.inputs() + 1;
    const Index across = parts_of(units, widest_block);
    const Index wide = pitch<T>(parts_of(units, across)), most_rows = block_numbers / wide;
    const Index down = threads_ > 1 ? std::min<Index>(all_rows, 2 * threads_) : 1;
    const MatrixView<T> delta = tape_.delta(1);
    parallel(down * across, threads_, [&](std::ptrdiff_t i) {
      const engine::Cell at = engine::cell(i, across);
      const Range all = part(all_rows, down, at.row), columns = part(units, across, at.column);
      thread_local SparseColumns<T> found;
      if (!sparse_->columns) found.load(*sparse_, all.begin, all.end);
      const SparseColumns<T>& x = sparse_->columns ? *sparse_->columns : found;
      for (Index first = all.begin; first < all.end; first += most_rows) {
        const Range rows{first, std::min(first + most_rows, all.end)};
        if (far_parameters()) prepare(1, rows, columns);
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
  static constexpr Index block_numbers = 32 * 1024 / sizeof(T), widest_block = 512;

  /// Whether parameters and moments do not fit the second-level cache, so that it pays to ask for them ahead.
  bool far_parameters() const { return network_.parameter_count() > 30000; }

  template <class Chunk>
  void in_chunks(const Chunk& chunk) {
    const Index chunks = chunk_count<T>(rows_, threads_);
    parallel(chunks, threads_, [&](std::ptrdiff_t i) { chunk(part(rows_, chunks, i)); });
  }

  /// Blocks of a strip of columns and all rows, for weights that should be read but once; or, where that makes too few
  /// to keep all threads busy to the end, down to half a strip, and then of some rows.
  template <class Block>
  void in_blocks(Index columns, const Block& block) {
    const Index panel = kernel_.panel, panels = parts_of(columns, panel), strip = strip_columns<T> / panel;
    const Index wanted = threads_ > 1 ? 4 * threads_ : 1;
    const Index across = std::clamp(wanted, parts_of(panels, strip), parts_of(panels, strip / 2));
    const Index down = std::clamp<Index>(rows_ / (4 * kernel_.tile_rows), 1, parts_of(wanted, across));
    parallel(down * across, threads_, [&](std::ptrdiff_t i) {
      const Range of_panels = part(panels, across, i / down);
      block(part(rows_, down, i % down), Range{of_panels.begin * panel, std::min(columns, of_panels.end * panel)});
    });
  }

  /// Rearranges the weights for the products with W_l, and for those with W_lᵀ down to layer `lowest`.
  void pack(bool forward, Index lowest) {
    const Index panel = kernel_.panel;
    const auto of_weights = [&](Index l) {
      return forward && (l > 1 || !sparse_) && worth_packing(network_, l, rows_) ? parts_of(network_.units(l), panel)
                                                                                 : 0;
    };
    const auto of_transpose = [&](Index l) { return l >= lowest ? parts_of(network_.units(l - 1), panel) : 0; };
    // The other threads' caches are too far away for a few numbers.
    const int threads = network_.parameter_count() < 16384 ? 1 : threads_;
    parallel_over_layers(
        1, depth_, threads, [&](Index l) { return of_weights(l) + of_transpose(l); },
        [&](Index l, Index i) {
          const Index in = network_.units(l - 1), out = network_.units(l), transposed = i - of_weights(l);
          const T* weight = network_.weight(l).data();
          if (transposed < 0) {
            const Index first = i * panel;
            kernel_.pack(in + 1, std::min(panel, out - first), weight + first, out,
                         tape_.weight_panels(l) + first * (in + 1));
          } else {
            const Index first = transposed * panel;
            kernel_.pack_transposed(out, std::min(panel, in - first), weight + first * out, out,
                                    tape_.transposed_panels(l) + first * out);
          }
        });
  }

  /// a_l = σ_l([a_{l-1} 1] [W_l; b_l])
  void forward_layer(Index l, Range rows, Range columns) {
    const bool packed = tape_.has_panels() && worth_packing(network_, l, rows_);
    const Weights<T> weights{network_, l, packed ? tape_.weight_panels(l) : nullptr, !tape_.has_panels()};
    const Rows<T> a = rows_of(tape_.activation(l), rows.begin);
    const Rows<T> z = tape_.has_pre_activation(l) ? rows_of(tape_.pre_activation(l), rows.begin) : a;
    const Rows<T> before = rows_of(tape_.passed_on(l - 1), rows.begin);
    layer_forward<T>(
        network_, l, rows.size(), columns, z, a, logits_only_ && l == depth_,
        [&](Range strip, Rows<T> z_strip) {
          if (l > 1 || !sparse_) return weights.forward(strip.size(), before.from(strip.begin), columns, z_strip);
          for (Index r = 0; r < strip.size(); ++r)
            sparse_product<T>(network_, sparse_row(rows.begin + strip.begin + r), columns, z_strip.row(r));
        },
        [&](T largest) {
          if (l < depth_) see(l, largest);
        });
    if (tape_.drops_out(l)) tape_.drop_out(l, rows.begin, rows.end, columns.begin, columns.end);
  }

  /// δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}
  void backward_layer(Index l, Range rows, Range columns) {
    const Weights<T> weights{network_, l, tape_.has_panels() ? tape_.transposed_panels(l) : nullptr,
                             !tape_.has_panels()};
    const Index strips = strip_count(network_, rows.size(), columns.size() * network_.units(l));
    for (Index s = 0; s < strips; ++s) {
      const Range within = part(rows.size(), strips, s);
      const Range strip{rows.begin + within.begin, rows.begin + within.end};
      weights.backward(strip.size(), rows_of(tape_.delta(l), strip.begin), columns,
                       rows_of(tape_.delta(l - 1), strip.begin).columns_from(columns.begin));
      times_derivative(l - 1, strip, columns);
      if (tape_.drops_out(l - 1)) times_mask(l - 1, strip, columns);
    }
  }

  /// The largest |a_l| or |δ_l| of a part, before units drop out.
  void see(Index l, T largest) {
    if (tape_.drops_out(l)) largest /= static_cast<T>(1 - network_.dropout(l));  // as the mask multiplies, nearly
    if (bound_ > 0 && !(largest <= bound_)) all_within_.store(false, std::memory_order_relaxed);
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
      if (bound_ > 0) see(l, kernel_.largest(rows.size(), columns.size(), delta));
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
  bool logits_only_;
  T bound_ = 0;  // none
  std::atomic<bool> all_within_{true};
  const Batch<T>* sparse_;
};

/// Σ_i w_i ℓ_i / divisor
template <class T>
double weighted_mean(const Batch<T>& batch, const double* row_loss, double divisor) {
  double total = 0;
  for (Index r = 0; r < batch.size; ++r) total += row_loss[r] * static_cast<double>(batch.weight(r));
  return total / divisor;
}

template <class T>
void check_tape(Tape<T>& tape, Index rows, bool inputs = true) {
  if (rows < 1) throw std::invalid_argument("the batch is empty; expected at least one row");
  if (!tape.fits(rows, inputs))
    throw std::invalid_argument("the tape is too small for " + std::to_string(rows) + " rows");
}

template <class T>
void store_gradient(Sweeps<T>& sweeps, const Network<T>& network, VectorView<T> gradient, bool add = false) {
  if (gradient.size() != network.parameter_count())
    throw std::invalid_argument("gradient has " + std::to_string(gradient.size()) + " entries; this network has " +
                                std::to_string(network.parameter_count()) + " parameters");
  const auto place = [&](Index l, Range rows, Range columns) {
    return gradient.data() + network.offset(l) + rows.begin * network.units(l) + columns.begin;
  };
  sweeps.by_weights([](Index, Range, Range) {},
                    [&](Index l, Range rows, Range columns, Rows<T> tile) {
                      for (Index r = 0; r < rows.size(); ++r) {
                        const T* from = tile.row(r);
                        T* to = place(l, rows, columns) + r * network.units(l);
                        for (Index c = 0; c < columns.size(); ++c) to[c] = add ? to[c] + from[c] : from[c];
                      }
                    });
}

template <class T>
void load_inputs(const Batch<T>& batch, Range rows, Rows<T> a0) {
  for (Index r = rows.begin; r < rows.end; ++r) batch.samples.X.load(batch.row(r), a0.row(r));
}

template <class T>
void load_targets(const Batch<T>& batch, Range rows, Tape<T>& tape) {
  const Rows<T> target = rows_of(tape.target());
  for (Index r = rows.begin; r < rows.end; ++r) {
    batch.samples.y.load(batch.row(r), tape.target().cols(), target.row(r));
    tape.row_weight()[r] = batch.weight(r);
  }
}

/// The first sweep of a step. Returns the loss.
template <class T>
double sweep_rows(Sweeps<T>& sweeps, const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
                  double loss_weight) {
  const double divisor = mean_divisor(loss, network.outputs(), batch.weight());
  fill_loss_parameters(loss, network.outputs(), tape.loss_parameter());
  sweeps.by_rows(
      [&](Range rows) {
        if (!sweeps.sparse()) load_inputs(batch, rows, rows_of(tape.activation(0)));
        load_targets(batch, rows, tape);
      },
      [&](Range rows) { sweeps.output_from_loss(loss, divisor / loss_weight, rows); });
  return weighted_mean(batch, tape.row_loss(), divisor);
}

/// Runs chunks of rows through the network without a tape: use(rows, a_L, targets), or z_L for a_L if `logits`, where
/// `targets` is room for as many rows.
template <class T, class Use>
void stream(const Network<T>& network, const Inputs<T>& X, bool logits, const Use& use) {
  const Index n = X.rows();
  const Index depth = network.depth();
  const int threads = threads_for(forward_operations(network, n));
  const Index chunks = chunk_count<T>(n, threads);
  const Index chunk_rows = parts_of(n, chunks);
  const Index wide = pitch<T>(network.widest());
  const bool large = !fits_packed<T>(network);
  const auto panels_size = [&](Index l) {
    if (large || !worth_packing(network, l, n)) return Index{0};
    return (network.units(l - 1) + 1) * parts_of(network.units(l), kernels<T>().panel) * kernels<T>().panel;
  };
  Index total = 0;
  for (Index l = 1; l <= depth; ++l) total += panels_size(l);
  Buffer<T> panels(total);
  T* next = panels.data();
  for (Index l = 1; l <= depth; next += panels_size(l), ++l)
    if (panels_size(l) > 0)
      kernels<T>().pack(network.units(l - 1) + 1, network.units(l), network.weight(l).data(), network.units(l), next);
  parallel(chunks, threads, [&](std::ptrdiff_t chunk) {
    const Range rows = part(n, chunks, chunk);
    T* memory = workspace<T>(3 * chunk_rows * wide);
    Rows<T> before{memory, wide}, after{memory + chunk_rows * wide, wide};
    const Rows<T> targets{memory + 2 * chunk_rows * wide, wide};
    for (Index r = 0; r < rows.size() && !X.mostly_zeros(); ++r) {
      X.load(rows.begin + r, before.row(r));
      before.row(r)[X.cols()] = T(1);
    }
    const T* next_panels = panels.data();
    for (Index l = 1; l <= depth; ++l) {
      const Range columns{0, network.units(l)};
      const T* packed = panels_size(l) > 0 ? next_panels : nullptr;
      layer_forward<T>(
          network, l, rows.size(), columns, after, after, logits && l == depth,
          [&](Range strip, Rows<T> z) {
            if (l > 1 || !X.mostly_zeros())
              return Weights<T>{network, l, packed, large}.forward(strip.size(), before.from(strip.begin), columns, z);
            for (Index r = 0; r < strip.size(); ++r)
              sparse_product<T>(network, X.stored(rows.begin + strip.begin + r), columns, z.row(r));
          },
          [](T) {});
      next_panels += panels_size(l);
      std::swap(before, after);
    }
    use(rows, before, targets);
  });
}

template <class T>
void forward_inputs(const Network<T>& network, const Inputs<T>& X, Tape<T>& tape) {
  check_tape(tape, X.rows());
  tape.set_rows(X.rows());
  Sweeps<T> sweeps(network, tape);
  const Rows<T> a0 = rows_of(tape.activation(0));
  sweeps.by_rows(
      [&](Range rows) {
        for (Index r = rows.begin; r < rows.end; ++r) X.load(r, a0.row(r));
      },
      nullptr);
}

template <class T>
void predict_inputs(const Network<T>& network, const Inputs<T>& X, T* output) {
  if (X.rows() == 0) return;
  stream<T>(network, X, false, [&](Range rows, Rows<T> a, Rows<T>) {
    for (Index r = 0; r < rows.size(); ++r)
      std::copy_n(a.row(r), network.outputs(), output + (rows.begin + r) * network.outputs());
  });
}

/// The loss of each sample, summed over its outputs where it is their mean.
template <class T>
Vector<double> sample_losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  const Index outputs = network.outputs();
  Buffer<T> loss_parameter(outputs);
  fill_loss_parameters(loss, outputs, loss_parameter.data());
  Vector<double> row_loss(samples.X.rows());
  stream<T>(network, samples.X, from_logits(loss), [&](Range rows, Rows<T> x, Rows<T> targets) {
    for (Index r = 0; r < rows.size(); ++r) samples.y.load(rows.begin + r, outputs, targets.row(r));
    kernels<T>().loss[loss.index()](rows.size(), outputs, x, targets, loss_parameter.data(), T(1), nullptr,
                                    row_loss.data() + rows.begin, {nullptr, 0});
  });
  return row_loss;
}

template <class T>
ConstMatrixView<T> view_of(const MatrixArgument<T>& X) {
  return {X.data(), X.rows(), X.cols(), Eigen::OuterStride<>(X.outerStride())};
}

}  // namespace

template <class T>
void forward(const Network<T>& network, const MatrixArgument<T>& X, Tape<T>& tape) {
  forward_inputs<T>(network, view_of<T>(X), tape);
}

template <class T>
void forward(const Network<T>& network, const SparseRows<T>& X, Tape<T>& tape) {
  forward_inputs<T>(network, X, tape);
}

template <class T>
double backward(const Network<T>& network, const Loss& loss, const Targets<T>& y, const T* sample_weight, Tape<T>& tape,
                VectorView<T> gradient) {
  const Batch<T> batch{{ConstMatrixView<T>(nullptr, 0, 0, Eigen::OuterStride<>(0)), y, sample_weight}, tape.rows()};
  check_tape(tape, batch.size);
  const double divisor = mean_divisor(loss, network.outputs(), batch.weight());
  fill_loss_parameters(loss, network.outputs(), tape.loss_parameter());
  Sweeps<T> sweeps(network, tape);
  sweeps.by_rows(nullptr, [&](Range rows) {
    load_targets(batch, rows, tape);
    sweeps.output_from_loss(loss, divisor, rows);
  });
  store_gradient(sweeps, network, gradient);
  return weighted_mean(batch, tape.row_loss(), divisor);
}

template <class T>
Matrix<T> pullback(const Network<T>& network, const MatrixArgument<T>& grad_output, Tape<T>& tape,
                   VectorView<T> gradient) {
  const Index n = tape.rows(), inputs = network.inputs();
  check_tape(tape, n);
  if (grad_output.rows() != n || grad_output.cols() != network.outputs())
    throw std::invalid_argument("grad_output is (" + std::to_string(grad_output.rows()) + ", " +
                                std::to_string(grad_output.cols()) + "); expected (" + std::to_string(n) + ", " +
                                std::to_string(network.outputs()) + ")");
  Sweeps<T> sweeps(network, tape);
  const Rows<T> delta = rows_of(tape.delta(network.depth()));
  sweeps.by_rows(nullptr, [&](Range rows) {
    for (Index r = rows.begin; r < rows.end; ++r)
      std::copy_n(grad_output.data() + r * grad_output.outerStride(), network.outputs(), delta.row(r));
    sweeps.output_from_gradient(rows);
  });
  const Index wide = pitch<T>(inputs);
  Buffer<T> padded(checked_product(n, wide));
  sweeps.input_gradient({padded.data(), wide});
  store_gradient(sweeps, network, gradient);
  return MatrixView<T>(padded.data(), n, inputs, Eigen::OuterStride<>(wide));
}

template <class T>
void predict(const Network<T>& network, const MatrixArgument<T>& X, T* output) {
  predict_inputs<T>(network, view_of<T>(X), output);
}

template <class T>
void predict(const Network<T>& network, const SparseRows<T>& X, T* output) {
  predict_inputs<T>(network, X, output);
}

template <class T>
Vector<double> losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  return sample_losses(network, loss, samples) / mean_divisor(loss, network.outputs(), 1);
}

template <class T>
double evaluate(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  const Batch<T> batch{samples, samples.X.rows()};
  if (batch.size < 1) throw std::invalid_argument("X has no rows; expected at least one");
  const Vector<double> row_loss = sample_losses(network, loss, samples);
  return weighted_mean(batch, row_loss.data(), mean_divisor(loss, network.outputs(), batch.weight()));
}

template <class T>
double penalty(const Network<T>& network, const Objective& objective) {
  if (objective.l2 == 0) return 0;
  double total = 0;
  for (Index l = 1; l <= network.depth(); ++l)
    total += kernels<T>().sum_of_squares(network.weight(l).size(), network.weight(l).data());
  return objective.l2 / 2 * total;
}

template <class T>
double step(Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape, Optimizer<T>& optimizer,
            const Objective& objective, std::vector<TensorSums>* sums) {
  const engine::FlushSubnormals flush;
  const bool sparse = batch.samples.X.mostly_zeros();
  check_tape(tape, batch.size, !sparse);
  optimizer.attach(network);
  tape.set_rows(batch.size);
  Sweeps<T> sweeps(network, tape, from_logits(loss), sparse ? &batch : nullptr);
  // While no number on the tape exceeds this, no sum of products aᵀδ comes to more than a quarter of the largest.
  sweeps.watch(std::sqrt(std::numeric_limits<T>::max() / static_cast<T>(4 * batch.size)));
  const double value = sweep_rows(sweeps, network, loss, batch, tape, objective.loss_weight);
  if (!std::isfinite(value)) return value;
  // The tiles of a sparse batch depend on the number of threads, which sums must not; and in the tiles the penalty's
  // gradient is missing, which is left to the update.
  if (!sweeps.all_within() || (sums && (sparse || objective.l2 != 0))) {
    Buffer<T> memory(network.parameter_count());
    const VectorView<T> whole(memory.data(), memory.size());
    gradient(network, loss, batch, tape, whole, objective);
    if (!kernels<T>().all_finite(whole.size(), whole.data())) return std::numeric_limits<double>::quiet_NaN();
    optimizer.step(network, {whole.data(), whole.size()}, sums);
    return value;
  }

  const UpdateConstants of_biases = optimizer.next_constants();
  UpdateConstants of_weights = of_biases;
  of_weights[0] += objective.l2 / batch.weight();
  const auto update = kernels<T>().update[optimizer.rule().index()];
  T* theta = network.parameters().data();
  const auto place = [&](Index l, Range rows, Range columns) {
    return network.offset(l) + rows.begin * network.units(l) + columns.begin;
  };
  std::optional<TileSums<T>> of_tiles;
  if (sums) of_tiles.emplace(network);
  sweeps.by_weights(
      [&](Index l, Range rows, Range columns) {
        const Index at = place(l, rows, columns), units = network.units(l);
        kernels<T>().prefetch(rows.size(), columns.size(), theta + at, units);
        for (int i = 0; i < max_moments; ++i)
          if (const T* moment = optimizer.moment(i))
            kernels<T>().prefetch(rows.size(), columns.size(), moment + at, units);
      },
      [&](Index l, Range rows, Range columns, Rows<T> tile) {
        const auto apply = [&](Range part_of_rows, const UpdateConstants& constants, TensorSums* of_part) {
          const Index at = place(l, part_of_rows, columns);
          const Rows<T> part_of_tile = tile.from(part_of_rows.begin - rows.begin);
          T* moments[max_moments];
          for (int i = 0; i < max_moments; ++i) moments[i] = optimizer.moment(i) ? optimizer.moment(i) + at : nullptr;
          engine::Sums found;
          update(part_of_rows.size(), columns.size(), part_of_tile, theta + at, moments, network.units(l),
                 constants.data(), of_part ? &found : nullptr);
          if (of_part) add<T>(*of_part, found, part_of_rows.size(), columns.size(), part_of_tile);
        };
        const Index bias = network.units(l - 1);  // the row of b_l
        TensorSums* const of_weight_tile = sums ? &of_tiles->of_weights(l, rows.begin, columns.begin) : nullptr;
        if (rows.end <= bias || (objective.l2 == 0 && !sums)) return apply(rows, of_weights, of_weight_tile);
        apply({rows.begin, bias}, of_weights, of_weight_tile);
        apply({bias, rows.end}, of_biases, sums ? &of_tiles->of_biases(l, columns.begin) : nullptr);
      });
  if (sums) {
    sums->assign(static_cast<std::size_t>(2 * network.depth()), {});
    of_tiles->add_to(*sums);
  }
  optimizer.count_step();
  return value;
}

template <class T>
double deltas(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
              const Objective& objective) {
  check_tape(tape, batch.size);
  tape.set_rows(batch.size);
  Sweeps<T> sweeps(network, tape);
  return sweep_rows(sweeps, network, loss, batch, tape, objective.loss_weight);
}

template <class T>
double gradient(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
                VectorView<T> gradient, const Objective& objective, bool add) {
  const bool sparse = batch.samples.X.mostly_zeros();
  check_tape(tape, batch.size, !sparse);
  tape.set_rows(batch.size);
  Sweeps<T> sweeps(network, tape, false, sparse ? &batch : nullptr);
  const double value = sweep_rows(sweeps, network, loss, batch, tape, objective.loss_weight);
  store_gradient(sweeps, network, gradient, add);
  add_penalty_gradient(network, objective, batch.weight(), gradient);
  return value;
}

template <class T>
void add_penalty_gradient(const Network<T>& network, const Objective& objective, double weight,
                          VectorView<T> gradient) {
  const auto decay = static_cast<T>(objective.l2 / weight);
  for (Index l = 1; decay != 0 && l <= network.depth(); ++l) {
    const ConstMatrixView<T> W = network.weight(l);
    gradient.segment(network.offset(l), W.size()) += decay * ConstVectorView<T>(W.data(), W.size());
  }
}

#define CHAINRULE_INSTANTIATE(T)                                                                                       \
  template void forward(const Network<T>&, const MatrixArgument<T>&, Tape<T>&);                                        \
  template void forward(const Network<T>&, const SparseRows<T>&, Tape<T>&);                                            \
  template double backward(const Network<T>&, const Loss&, const Targets<T>&, const T*, Tape<T>&, VectorView<T>);      \
  template Matrix<T> pullback(const Network<T>&, const MatrixArgument<T>&, Tape<T>&, VectorView<T>);                   \
  template void predict(const Network<T>&, const MatrixArgument<T>&, T*);                                              \
  template void predict(const Network<T>&, const SparseRows<T>&, T*);                                                  \
  template Vector<double> losses(const Network<T>&, const Loss&, const Samples<T>&);                                   \
  template double evaluate(const Network<T>&, const Loss&, const Samples<T>&);                                         \
  template double penalty(const Network<T>&, const Objective&);                                                        \
  template double step(Network<T>&, const Loss&, const Batch<T>&, Tape<T>&, Optimizer<T>&, const Objective&,           \
                       std::vector<TensorSums>*);                                                                      \
  template double deltas(const Network<T>&, const Loss&, const Batch<T>&, Tape<T>&, const Objective&);                 \
  template double gradient(const Network<T>&, const Loss&, const Batch<T>&, Tape<T>&, VectorView<T>, const Objective&, \
                           bool);                                                                                      \
  template void add_penalty_gradient(const Network<T>&, const Objective&, double, VectorView<T>);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
