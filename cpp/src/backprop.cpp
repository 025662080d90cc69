#include "chainrule/backprop.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include "checks.hpp"
#include "layout.hpp"
#include "loss_mean.hpp"
#include "sweeps.hpp"
#include "tile_update.hpp"

namespace chainrule {

namespace {

template <class T>
void store_gradient(Sweeps<T>& sweeps, const Network<T>& network, VectorView<T> gradient, bool add = false) {
  sweeps.by_weights([](Index, Range, Range) {},
                    [&](Index l, Range rows, Range columns, Rows<T> tile) {
                      store_tile(network, l, rows, columns, tile, gradient.data(), add);
                    });
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
        load_targets(batch, loss_weight / divisor, rows, tape);
      },
      [&](Range rows) { sweeps.output_from_loss(loss, rows); });
  return weighted_mean(batch, tape.row_loss(), divisor);
}

}  // namespace

template <class T>
void forward(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X, Tape<T>& tape) {
  check_inputs(network, X);
  check_tape(network, tape, X.rows());
  tape.set_rows(X.rows());
  Sweeps<T>(network, tape).forward(X);
}

template <class T>
double backward(const Network<T>& network, const Loss& loss, const Targets<T>& y, const T* sample_weight, Tape<T>& tape,
                VectorView<T> gradient) {
  const Index n = tape.rows();
  check_tape(network, tape, n);
  check_size(network, "gradient", gradient.size());
  if (y.rows != n)
    throw std::invalid_argument("y has " + std::to_string(y.rows) + " rows; the last forward's X has " +
                                std::to_string(n));
  check_targets(network, loss, y, n);
  const Batch<T> batch{{ConstMatrixView<T>(nullptr, 0, 0, Eigen::OuterStride<>(0)), y, sample_weight}, n};
  const double divisor = mean_divisor(loss, network.outputs(), batch.weight());
  fill_loss_parameters(loss, network.outputs(), tape.loss_parameter());
  Sweeps<T> sweeps(network, tape);
  sweeps.by_rows(nullptr, [&](Range rows) {
    load_targets(batch, 1 / divisor, rows, tape);
    sweeps.output_from_loss(loss, rows);
  });
  store_gradient(sweeps, network, gradient);
  return weighted_mean(batch, tape.row_loss(), divisor);
}

template <class T>
Matrix<T> pullback(const Network<T>& network, const MatrixArgument<T>& grad_output, Tape<T>& tape,
                   VectorView<T> gradient) {
  const Index n = tape.rows(), inputs = network.inputs();
  check_tape(network, tape, n);
  check_size(network, "gradient", gradient.size());
  if (grad_output.rows() != n || grad_output.cols() != network.outputs())
    throw std::invalid_argument("grad_output is (" + std::to_string(grad_output.rows()) + ", " +
                                std::to_string(grad_output.cols()) + "); expected (" + std::to_string(n) + ", " +
                                std::to_string(network.outputs()) + ")");
  Sweeps<T> sweeps(network, tape);
  const Rows<T> delta = rows_of(tape.delta(network.depth()));
  sweeps.by_rows(nullptr, [&](Range rows) {
    for (Index r = rows.begin; r < rows.end; ++r)
      copy_row(grad_output.data() + r * grad_output.outerStride(), network.outputs(), delta.row(r));
    sweeps.output_from_gradient(rows);
  });
  const Index wide = pitch<T>(inputs);
  Buffer<T> padded(checked_product(n, wide));
  sweeps.input_gradient({padded.data(), wide});
  store_gradient(sweeps, network, gradient);
  return MatrixView<T>(padded.data(), n, inputs, Eigen::OuterStride<>(wide));
}

template <class T>
double penalty(const Network<T>& network, const Objective& objective) {
  if (objective.l2 == 0) return 0;
  double total = 0;
  for (Index l = 1; l <= network.depth(); ++l)
    total += kernels<T>().sum_of_squares(network.weight(l).size(), network.weight(l).data());
  return objective.l2 / 2 * total;
}

namespace {

/// Times the steps of few operations, for the tape to find out on how many threads it is best to take them. In larger
/// ones the products take longer than handing over the numbers.
template <class T>
class StepTimer {
 public:
  StepTimer(Tape<T>& tape, double operations) : tape_(tape), times_(operations < 3e7 && threads_for(operations) > 1) {
    if (times_) begin_ = Clock::now();
  }
  bool one_thread() const { return times_ && !tape_.step_threads().several(); }
  void done() const {
    if (!times_) return;
    const std::chrono::duration<double> elapsed = Clock::now() - begin_;
    tape_.step_threads().took(elapsed.count() / static_cast<double>(tape_.rows()));
  }

 private:
  using Clock = std::chrono::steady_clock;
  Tape<T>& tape_;
  const bool times_;
  Clock::time_point begin_;
};

}  // namespace

template <class T>
double step(Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape, Optimizer<T>& optimizer,
            const Objective& objective, std::vector<TensorSums>* sums) {
  const engine::FlushSubnormals flush;
  const bool sparse = batch.samples.X.mostly_zeros();
  check_batch(network, loss, batch);
  const Index at_a_time = rows_at_a_time(network, batch.size, {.inputs = !sparse});
  check_tape(network, tape, at_a_time, {.inputs = !sparse});
  optimizer.attach(network);
  // Stores the whole gradient by fill(g), which returns the loss, and updates by it.
  const auto by_gradient = [&](const auto& fill) {
    Buffer<T> memory(network.parameter_count());
    const VectorView<T> g(memory.data(), memory.size());
    const double value = fill(g);
    if (!std::isfinite(value)) return value;
    if (!kernels<T>().all_finite(g.size(), g.data())) return std::numeric_limits<double>::quiet_NaN();
    optimizer.step(network, {g.data(), g.size()}, sums);
    return value;
  };
  if (at_a_time < batch.size)
    return by_gradient([&](VectorView<T> g) { return gradient(network, loss, batch, tape, g, objective); });

  tape.set_rows(batch.size);
  const StepTimer<T> timer(tape, forward_operations(network, batch.size));
  // While no number on the tape exceeds this, no sum of products aᵀδ comes to more than a quarter of the largest.
  const T bound = std::sqrt(std::numeric_limits<T>::max() / static_cast<T>(4 * batch.size));
  Sweeps<T> sweeps(network, tape,
                   {.logits_only = from_logits(loss) && !sums,  // whoever wants sums looks at the tape too
                    .sparse = sparse ? &batch : nullptr,
                    .one_thread = timer.one_thread(),
                    .bound = bound});
  const double value = sweep_rows(sweeps, network, loss, batch, tape, objective.loss_weight);
  if (!std::isfinite(value)) return value;
  const double decay = objective.l2 / batch.weight();
  // The tiles of a sparse batch depend on the number of threads, which sums must not; and in the tiles the penalty's
  // gradient is missing, which is left to the update. A decay of 1 and less keeps that of a weight within range.
  const bool by_tiles = sweeps.all_within() && decay <= 1 && !(sums && (sparse || decay != 0));
  if (!by_tiles)
    return by_gradient([&](VectorView<T> g) {
      store_gradient(sweeps, network, g);
      add_penalty_gradient(network, objective, batch.weight(), g);
      return value;
    });

  TileUpdate<T> updates(network, optimizer, decay, sums != nullptr);
  sweeps.by_weights([&](Index l, Range rows, Range columns) { updates.prefetch(l, rows, columns); },
                    [&](Index l, Range rows, Range columns, Rows<T> tile) { updates.update(l, rows, columns, tile); });
  if (sums) *sums = updates.sums();
  optimizer.count_step();
  timer.done();
  return value;
}

template <class T>
double deltas(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
              const Objective& objective) {
  check_batch(network, loss, batch);
  check_tape(network, tape, batch.size);
  tape.set_rows(batch.size);
  Sweeps<T> sweeps(network, tape);
  return sweep_rows(sweeps, network, loss, batch, tape, objective.loss_weight);
}

template <class T>
double gradient(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
                VectorView<T> gradient, const Objective& objective, bool add) {
  const bool sparse = batch.samples.X.mostly_zeros();
  check_batch(network, loss, batch);
  const Index at_a_time = rows_at_a_time(network, batch.size, {.inputs = !sparse});
  check_tape(network, tape, at_a_time, {.inputs = !sparse});
  check_size(network, "gradient", gradient.size());
  const std::optional<MaskDraw> draw = tape.draw();
  const double weight = batch.weight();
  double value = 0;
  for (Index first = 0; first < batch.size; first += at_a_time) {
    const Index rows = std::min(at_a_time, batch.size - first);
    const Batch<T> part = rows < batch.size ? batch.part(first, rows, weight) : batch;
    if (draw) tape.set_draw(draw->from(first));
    tape.set_rows(part.size);
    Sweeps<T> sweeps(network, tape, {.sparse = sparse ? &part : nullptr});
    value += sweep_rows(sweeps, network, loss, part, tape, objective.loss_weight);
    store_gradient(sweeps, network, gradient, add || first > 0);
  }
  tape.set_draw(draw);
  add_penalty_gradient(network, objective, weight, gradient);
  return value;
}

template <class T>
void add_penalty_gradient(const Network<T>& network, const Objective& objective, double weight,
                          VectorView<T> gradient) {
  check_size(network, "gradient", gradient.size());
  const auto decay = static_cast<T>(objective.l2 / weight);
  for (Index l = 1; decay != 0 && l <= network.depth(); ++l) {
    const ConstMatrixView<T> W = network.weight(l);
    gradient.segment(network.offset(l), W.size()) += decay * ConstVectorView<T>(W.data(), W.size());
  }
}

#define CHAINRULE_INSTANTIATE(T)                                                                                       \
  template void forward(const Network<T>&, const std::type_identity_t<Inputs<T>>&, Tape<T>&);                          \
  template double backward(const Network<T>&, const Loss&, const Targets<T>&, const T*, Tape<T>&, VectorView<T>);      \
  template Matrix<T> pullback(const Network<T>&, const MatrixArgument<T>&, Tape<T>&, VectorView<T>);                   \
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
