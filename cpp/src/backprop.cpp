#include "chainrule/backprop.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"
#include "pitch.hpp"

namespace chainrule {

namespace {

using engine::Kernels;
using engine::kernels;
using engine::Panels;
using engine::parallel;
using engine::part;
using engine::Range;
using engine::Rows;
using engine::threads_for;

template <class T>
Rows<T> rows_of(MatrixView<T> m, Index first = 0) {
  return {m.data() + first * m.outerStride(), m.outerStride()};
}

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
  const Index chunks = (rows + largest - 1) / largest;
  return std::min(rows, (chunks + threads - 1) / threads * threads);
}

/// Few rows read each weight but a few times: then rearranging the weights first does not pay.
template <class T>
bool worth_packing(Index rows) {
  return rows > 2 * kernels<T>().tile_rows;
}

template <class T>
Panels<T> packed(const T* panels, Index k) {
  return {panels, kernels<T>().panel, k * kernels<T>().panel};
}

/// [W_l; b_l] as it lies in θ.
template <class T>
Panels<T> as_it_lies(const Network<T>& network, Index l) {
  return {network.weight_and_bias(l).data(), network.units(l), kernels<T>().panel};
}

/// Calls part(l, i) for the parts i = 0 … parts(l) - 1 of each layer l = first … L, in parallel.
template <class Count, class Part>
void parallel_over_layers(Index first, Index depth, int threads, const Count& parts, const Part& part) {
  Index total = 0;
  for (Index l = first; l <= depth; ++l) total += parts(l);
  parallel(total, threads, [&](std::ptrdiff_t i) {
    Index l = first;
    for (; i >= parts(l); ++l) i -= parts(l);
    part(l, i);
  });
}

/// a_l = σ_l([a_{l-1} 1] [W_l; b_l]) for `count` rows. z and a may be the same memory; with `linear` a is not written.
template <class T>
void layer_forward(const Network<T>& network, Index l, Panels<T> weights, Index count, Rows<const T> before, Rows<T> z,
                   Rows<T> a, bool linear = false) {
  const Kernels<T>& kernel = kernels<T>();
  const Index units = network.units(l);
  const Activation& activation = network.activation(l);
  const auto activate = kernel.activate[activation.index()];
  const T parameter_ = static_cast<T>(parameter(activation));
  // A strip is as many rows as one tile has: σ finds them in the first-level cache.
  const Index strips = (count + kernel.tile_rows - 1) / kernel.tile_rows;
  for (Index s = 0; s < strips; ++s) {
    const Range strip = part(count, strips, s);
    kernel.multiply(strip.size(), units, network.units(l - 1) + 1, before.row(strip.begin), before.pitch, 1, weights,
                    z.from(strip.begin));
    if (!linear) activate(strip.size(), units, z.from(strip.begin), a.from(strip.begin), parameter_);
  }
  for (Index r = 0; r < count; ++r) a.row(r)[units] = T(1);
}

/// The columns' parameters of a loss: δ of Huber's, τ of the quantiles.
template <class T>
void fill_loss_parameters(const Loss& loss, Index outputs, T* to) {
  const std::vector<double> values = parameters(loss);
  if (values.empty()) return;
  for (Index j = 0; j < outputs; ++j)
    to[j] = static_cast<T>(values[static_cast<std::size_t>(j) % values.size()]);
}

/// Sample `from` of y as row `to`: labels as one-hot rows, a target with several quantiles once for each.
template <class T>
void load_target(const Targets<T>& y, Index from, Index outputs, T* to) {
  if (y.labels) {
    std::fill_n(to, outputs, T(0));
    to[y.labels[from]] = T(1);
    return;
  }
  const T* values = y.values + from * y.stride;
  const Index repeat = outputs / y.columns;
  if (repeat == 1) {
    std::copy_n(values, outputs, to);
    return;
  }
  for (Index j = 0; j < outputs; ++j) to[j] = values[j / repeat];
}

/// What a mean divides by: the sum of the samples' weights, times the outputs.
double mean_divisor(const Loss& loss, Index outputs, double weight) {
  return sum_over_outputs(loss) ? weight : weight * static_cast<double>(outputs);
}

/// The two sweeps over the batch on a tape.
template <class T>
class Sweeps {
 public:
  Sweeps(const Network<T>& network, Tape<T>& tape)
      : network_(network),
        tape_(tape),
        depth_(network.depth()),
        rows_(tape.rows()),
        packed_(worth_packing<T>(tape.rows())) {}

  /// Rearranges the weights for the products with W_l and, down to layer `lowest`, with W_lᵀ.
  void pack(bool forward, Index lowest) {
    const Index panel = kernel_.panel;
    const auto panels = [panel](Index columns) { return (columns + panel - 1) / panel; };
    const int threads = threads_for(static_cast<double>(network_.parameter_count()));
    if (forward && packed_)
      parallel_over_layers(
          1, depth_, threads, [&](Index l) { return panels(network_.units(l)); },
          [&](Index l, Index i) {
            const Index in = network_.units(l - 1) + 1, out = network_.units(l), first = i * panel;
            kernel_.pack(in, std::min(panel, out - first), network_.weight(l).data() + first, out,
                         tape_.weight_panels(l) + i * in * panel);
          });
    parallel_over_layers(
        lowest, depth_, threads, [&](Index l) { return panels(network_.units(l - 1)); },
        [&](Index l, Index i) {
          const Index in = network_.units(l - 1), out = network_.units(l), first = i * panel;
          kernel_.pack_transposed(out, std::min(panel, in - first), network_.weight(l).data() + first * out, out,
                                  tape_.transposed_panels(l) + i * out * panel);
        });
  }

  /// a_0 … a_L of some rows.
  void forward(Range rows) {
    for (Index l = 1; l <= depth_; ++l) {
      const Rows<T> a = rows_of(tape_.activation(l), rows.begin);
      const Rows<T> z = tape_.has_pre_activation(l) ? rows_of(tape_.pre_activation(l), rows.begin) : a;
      const Panels<T> weights = packed_ ? packed<T>(tape_.weight_panels(l), network_.units(l - 1) + 1)
                                        : as_it_lies(network_, l);
      layer_forward<T>(network_, l, weights, rows.size(), rows_of(tape_.activation(l - 1), rows.begin), z, a);
    }
  }

  /// Losses and δ_L of some rows.
  void output(const Loss& loss, double divisor, Range rows) {
    const Index outputs = network_.outputs();
    const Rows<T> x = rows_of(from_logits(loss) ? tape_.pre_activation(depth_) : tape_.activation(depth_), rows.begin);
    const Rows<T> delta = rows_of(tape_.delta(depth_), rows.begin);
    kernel_.loss[loss.index()](rows.size(), outputs, x, rows_of(tape_.target(), rows.begin), tape_.loss_parameter(),
                               static_cast<T>(1 / divisor), tape_.row_weight() + rows.begin,
                               tape_.row_loss() + rows.begin, delta);
    if (!from_logits(loss)) times_derivative(depth_, rows, delta);
  }

  /// δ_{L-1} … δ_1 of some rows, from δ_L:  δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}
  void backward(Range rows) {
    for (Index l = depth_; l > 1; --l) {
      const Rows<T> delta = rows_of(tape_.delta(l - 1), rows.begin);
      const Index strips = (rows.size() + kernel_.tile_rows - 1) / kernel_.tile_rows;
      for (Index s = 0; s < strips; ++s) {
        Range strip = part(rows.size(), strips, s);
        input_gradient(l, {rows.begin + strip.begin, rows.begin + strip.end}, delta.from(strip.begin));
        times_derivative(l - 1, {rows.begin + strip.begin, rows.begin + strip.end}, delta.from(strip.begin));
      }
    }
  }

  /// dL/da_{l-1} = δ_l W_lᵀ
  void input_gradient(Index l, Range rows, Rows<T> to) {
    const Rows<T> delta = rows_of(tape_.delta(l), rows.begin);
    kernel_.multiply(rows.size(), network_.units(l - 1), network_.units(l), delta.data, delta.pitch, 1,
                     packed<T>(tape_.transposed_panels(l), network_.units(l)), to);
  }

  /// The δ of `rows`, at `delta`, times σ'_l.
  void times_derivative(Index l, Range rows, Rows<T> delta) {
    const Activation& activation = network_.activation(l);
    if (std::holds_alternative<Identity>(activation)) return;
    const Rows<T> a = rows_of(tape_.activation(l), rows.begin);
    const Rows<T> z = tape_.has_pre_activation(l) ? rows_of(tape_.pre_activation(l), rows.begin) : a;
    kernel_.times_derivative[activation.index()](rows.size(), network_.units(l), z, a, delta,
                                                 static_cast<T>(parameter(activation)));
  }

  /// [dW_l; db_l] = [a_{l-1} 1]ᵀ δ_l, tile by tile: use(l, first row, rows, first column, columns, tile).
  template <class Use>
  void by_weights(const Use& use) {
    const auto tiles_down = [this](Index l) {
      return (network_.units(l - 1) + 1 + kernel_.tile_rows - 1) / kernel_.tile_rows;
    };
    const auto tiles_across = [this](Index l) { return (network_.units(l) + tile_columns - 1) / tile_columns; };
    parallel_over_layers(
        1, depth_, threads_for(forward_operations(network_, rows_)),
        [&](Index l) { return tiles_down(l) * tiles_across(l); },
        [&](Index l, Index i) {
          const Range down = part(network_.units(l - 1) + 1, tiles_down(l), i / tiles_across(l));
          const Index first = i % tiles_across(l) * tile_columns;
          const Index columns = std::min(tile_columns, network_.units(l) - first);
          alignas(64) T tile[max_tile_rows * tile_columns];
          const Rows<T> to{tile, tile_columns};
          const MatrixView<T> a = tape_.activation(l - 1), delta = tape_.delta(l);
          kernel_.multiply(down.size(), columns, rows_, a.data() + down.begin, 1, a.outerStride(),
                           {delta.data() + first, delta.outerStride(), kernel_.panel}, to);
          use(l, down.begin, down.size(), first, columns, to);
        });
  }

 private:
  static constexpr Index max_tile_rows = 16, tile_columns = 256;

  const Network<T>& network_;
  Tape<T>& tape_;
  const Kernels<T>& kernel_ = kernels<T>();
  Index depth_, rows_;
  bool packed_;
};

/// Σ_i w_i ℓ_i / divisor
template <class T>
double weighted_mean(const Batch<T>& batch, const double* row_loss, double divisor) {
  double total = 0;
  for (Index r = 0; r < batch.size; ++r) total += row_loss[r] * static_cast<double>(batch.weight(r));
  return total / divisor;
}

template <class T>
void check_tape(Tape<T>& tape, Index rows) {
  if (rows < 1) throw std::invalid_argument("the batch is empty; expected at least one row");
  if (!tape.fits(rows))
    throw std::invalid_argument("the tape is too small for " + std::to_string(rows) + " rows");
}

template <class T>
void store_gradient(Sweeps<T>& sweeps, const Network<T>& network, VectorView<T> gradient) {
  if (gradient.size() != network.parameter_count())
    throw std::invalid_argument("gradient has " + std::to_string(gradient.size()) + " entries; this network has " +
                                std::to_string(network.parameter_count()) + " parameters");
  sweeps.by_weights([&](Index l, Index row, Index rows, Index column, Index columns, Rows<T> tile) {
    T* to = gradient.data() + network.offset(l) + row * network.units(l) + column;
    for (Index r = 0; r < rows; ++r) std::copy_n(tile.row(r), columns, to + r * network.units(l));
  });
}

template <class T>
void load_inputs(const Batch<T>& batch, Range rows, Rows<T> a0) {
  const ConstMatrixView<T>& X = batch.samples.X;
  for (Index r = rows.begin; r < rows.end; ++r)
    std::copy_n(X.data() + batch.row(r) * X.outerStride(), X.cols(), a0.row(r));
}

template <class T>
void load_targets(const Batch<T>& batch, Range rows, Tape<T>& tape) {
  const Rows<T> target = rows_of(tape.target());
  for (Index r = rows.begin; r < rows.end; ++r) {
    load_target(batch.samples.y, batch.row(r), tape.target().cols(), target.row(r));
    tape.row_weight()[r] = batch.weight(r);
  }
}

/// The first sweep: calls chunk(rows) for all rows, in parallel.
template <class T, class Chunk>
void by_rows(const Network<T>& network, Index rows, const Chunk& chunk) {
  const int threads = threads_for(2 * forward_operations(network, rows));
  const Index chunks = chunk_count<T>(rows, threads);
  parallel(chunks, threads, [&](std::ptrdiff_t i) { chunk(part(rows, chunks, i)); });
}

/// The first sweep of a step. Returns the loss.
template <class T>
double sweep_rows(Sweeps<T>& sweeps, const Network<T>& network, const Loss& loss, const Batch<T>& batch,
                  Tape<T>& tape) {
  const double divisor = mean_divisor(loss, network.outputs(), batch.weight());
  fill_loss_parameters(loss, network.outputs(), tape.loss_parameter());
  sweeps.pack(true, 2);
  by_rows(network, batch.size, [&](Range rows) {
    load_inputs(batch, rows, rows_of(tape.activation(0)));
    load_targets(batch, rows, tape);
    sweeps.forward(rows);
    sweeps.output(loss, divisor, rows);
    sweeps.backward(rows);
  });
  return weighted_mean(batch, tape.row_loss(), divisor);
}

/// Memory of this thread's for predictions: the rows of two layers, and the targets.
template <class T>
T* workspace(Index size) {
  thread_local Buffer<T> memory;
  if (memory.size() < size) memory = Buffer<T>(size);
  return memory.data();
}

/// Runs chunks of rows through the network without a tape: use(rows, a_L, targets), or z_L for a_L if `logits`, where
/// `targets` is room for as many rows.
template <class T, class Use>
void stream(const Network<T>& network, ConstMatrixView<T> X, bool logits, const Use& use) {
  const Index n = X.rows();
  const Index depth = network.depth();
  const int threads = threads_for(forward_operations(network, n));
  const Index chunks = chunk_count<T>(n, threads);
  const Index chunk_rows = (n + chunks - 1) / chunks;
  const Index wide = pitch<T>(network.widest());
  Buffer<T> panels;
  std::vector<Index> starts(static_cast<std::size_t>(depth) + 1, 0);
  const bool pack = worth_packing<T>(n);
  if (pack) {
    const Index panel = kernels<T>().panel;
    Index total = 0;
    for (Index l = 1; l <= depth; ++l) {
      starts[static_cast<std::size_t>(l)] = total;
      total += (network.units(l - 1) + 1) * ((network.units(l) + panel - 1) / panel * panel);
    }
    panels = Buffer<T>(total);
    for (Index l = 1; l <= depth; ++l)
      kernels<T>().pack(network.units(l - 1) + 1, network.units(l), network.weight(l).data(), network.units(l),
                        panels.data() + starts[static_cast<std::size_t>(l)]);
  }
  parallel(chunks, threads, [&](std::ptrdiff_t chunk) {
    const Range rows = part(n, chunks, chunk);
    T* memory = workspace<T>(3 * chunk_rows * wide);
    Rows<T> before{memory, wide}, after{memory + chunk_rows * wide, wide};
    const Rows<T> targets{memory + 2 * chunk_rows * wide, wide};
    for (Index r = 0; r < rows.size(); ++r) {
      std::copy_n(X.data() + (rows.begin + r) * X.outerStride(), X.cols(), before.row(r));
      before.row(r)[X.cols()] = T(1);
    }
    for (Index l = 1; l <= depth; ++l) {
      const Panels<T> weights =
          pack ? packed<T>(panels.data() + starts[static_cast<std::size_t>(l)], network.units(l - 1) + 1)
               : as_it_lies(network, l);
      layer_forward<T>(network, l, weights, rows.size(), before, after, after, logits && l == depth);
      std::swap(before, after);
    }
    use(rows, before, targets);
  });
}

}  // namespace

template <class T>
void forward(const Network<T>& network, const MatrixArgument<T>& X, Tape<T>& tape) {
  check_tape(tape, X.rows());
  tape.set_rows(X.rows());
  Sweeps<T> sweeps(network, tape);
  sweeps.pack(true, network.depth() + 1);
  by_rows(network, X.rows(), [&](Range rows) {
    for (Index r = rows.begin; r < rows.end; ++r) std::copy_n(X.data() + r * X.outerStride(), X.cols(), tape.activation(0).row(r).data());
    sweeps.forward(rows);
  });
}

template <class T>
double backward(const Network<T>& network, const Loss& loss, const Targets<T>& y, const T* sample_weight, Tape<T>& tape,
                VectorView<T> gradient) {
  const Batch<T> batch{{{nullptr, 0, 0, Eigen::OuterStride<>(0)}, y, sample_weight}, tape.rows()};
  check_tape(tape, batch.size);
  const double divisor = mean_divisor(loss, network.outputs(), batch.weight());
  fill_loss_parameters(loss, network.outputs(), tape.loss_parameter());
  Sweeps<T> sweeps(network, tape);
  sweeps.pack(false, 2);
  by_rows(network, batch.size, [&](Range rows) {
    load_targets(batch, rows, tape);
    sweeps.output(loss, divisor, rows);
    sweeps.backward(rows);
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
  sweeps.pack(false, 1);
  const Index wide = pitch<T>(inputs);
  Buffer<T> padded(checked_product(n, wide));
  by_rows(network, n, [&](Range rows) {
    const Index depth = network.depth();
    const Rows<T> delta = rows_of(tape.delta(depth), rows.begin);
    for (Index r = 0; r < rows.size(); ++r)
      std::copy_n(grad_output.data() + (rows.begin + r) * grad_output.outerStride(), network.outputs(), delta.row(r));
    sweeps.times_derivative(depth, rows, delta);
    sweeps.backward(rows);
    sweeps.input_gradient(1, rows, {padded.data() + rows.begin * wide, wide});
  });
  store_gradient(sweeps, network, gradient);
  return MatrixView<T>(padded.data(), n, inputs, Eigen::OuterStride<>(wide));
}

template <class T>
void predict(const Network<T>& network, const MatrixArgument<T>& X, T* output) {
  if (X.rows() == 0) return;
  const ConstMatrixView<T> rows_of_X(X.data(), X.rows(), X.cols(), Eigen::OuterStride<>(X.outerStride()));
  stream<T>(network, rows_of_X, false, [&](Range rows, Rows<T> a, Rows<T>) {
    for (Index r = 0; r < rows.size(); ++r)
      std::copy_n(a.row(r), network.outputs(), output + (rows.begin + r) * network.outputs());
  });
}

template <class T>
double evaluate(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  const Batch<T> batch{samples, samples.X.rows()};
  const Index outputs = network.outputs();
  if (batch.size < 1) throw std::invalid_argument("X has no rows; expected at least one");
  Buffer<T> loss_parameter(outputs);
  fill_loss_parameters(loss, outputs, loss_parameter.data());
  Buffer<double> row_loss(batch.size);
  stream<T>(network, samples.X, from_logits(loss), [&](Range rows, Rows<T> x, Rows<T> targets) {
    for (Index r = 0; r < rows.size(); ++r) load_target(samples.y, rows.begin + r, outputs, targets.row(r));
    kernels<T>().loss[loss.index()](rows.size(), outputs, x, targets, loss_parameter.data(), T(1), nullptr,
                                    row_loss.data() + rows.begin, {nullptr, 0});
  });
  return weighted_mean(batch, row_loss.data(), mean_divisor(loss, outputs, batch.weight()));
}

template <class T>
double step(Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape, Optimizer<T>& optimizer) {
  check_tape(tape, batch.size);
  optimizer.attach(network);
  tape.set_rows(batch.size);
  Sweeps<T> sweeps(network, tape);
  const double value = sweep_rows(sweeps, network, loss, batch, tape);
  if (!std::isfinite(value)) return value;

  const UpdateConstants constants = optimizer.next_constants();
  const auto update = kernels<T>().update[optimizer.rule().index()];
  T* theta = network.parameters().data();
  sweeps.by_weights([&](Index l, Index row, Index rows, Index column, Index columns, Rows<T> tile) {
    const Index at = network.offset(l) + row * network.units(l) + column;
    T* moments[max_moments];
    for (int i = 0; i < max_moments; ++i) moments[i] = optimizer.moment(i) ? optimizer.moment(i) + at : nullptr;
    update(rows, columns, tile, theta + at, moments, network.units(l), constants.data());
  });
  optimizer.count_step();
  return value;
}

template <class T>
double gradient(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
                VectorView<T> gradient) {
  check_tape(tape, batch.size);
  tape.set_rows(batch.size);
  Sweeps<T> sweeps(network, tape);
  const double value = sweep_rows(sweeps, network, loss, batch, tape);
  store_gradient(sweeps, network, gradient);
  return value;
}

#define CHAINRULE_INSTANTIATE(T)                                                                                      \
  template void forward(const Network<T>&, const MatrixArgument<T>&, Tape<T>&);                                       \
  template double backward(const Network<T>&, const Loss&, const Targets<T>&, const T*, Tape<T>&, VectorView<T>);     \
  template Matrix<T> pullback(const Network<T>&, const MatrixArgument<T>&, Tape<T>&, VectorView<T>);                  \
  template void predict(const Network<T>&, const MatrixArgument<T>&, T*);                                             \
  template double evaluate(const Network<T>&, const Loss&, const Samples<T>&);                                        \
  template double step(Network<T>&, const Loss&, const Batch<T>&, Tape<T>&, Optimizer<T>&);                           \
  template double gradient(const Network<T>&, const Loss&, const Batch<T>&, Tape<T>&, VectorView<T>);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
