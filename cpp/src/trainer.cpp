#include "chainrule/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "chainrule/random.hpp"
#include "engine/kernels.hpp"

namespace chainrule {

NonFiniteLoss::NonFiniteLoss(double loss, const std::string& where)
    : std::runtime_error("the loss became " + std::to_string(loss) + where +
                         "; the parameters are those before that step. A smaller learning rate, clip_norm or scaled "
                         "inputs usually help") {}

namespace {

void check(const FitOptions& options, Index samples) {
  const auto positive = [](const char* what, Index value) {
    if (value < 1)
      throw std::invalid_argument(std::string(what) + " is " + std::to_string(value) + "; expected at least 1");
  };
  positive("epochs", options.epochs);
  positive("batch_size", options.batch_size);
  if (options.patience) positive("patience", *options.patience);
  if (!(options.objective.loss_weight > 0) || !std::isfinite(options.objective.loss_weight))
    throw std::invalid_argument("loss_weight is " + std::to_string(options.objective.loss_weight) +
                                "; expected a finite number > 0");
  if (!(options.objective.l2 >= 0) || !std::isfinite(options.objective.l2))
    throw std::invalid_argument("l2 is " + std::to_string(options.objective.l2) + "; expected a finite number >= 0");
  if (options.clip_norm && !(*options.clip_norm > 0))
    throw std::invalid_argument("clip_norm is " + std::to_string(*options.clip_norm) + "; expected a number > 0");
  if (samples < 1) throw std::invalid_argument("X has no rows; expected at least one");
  check(options.schedule);
}

template <class T>
std::string place(const FitState<T>& state) {
  return " in epoch " + std::to_string(state.epoch) + ", step " + std::to_string(state.step);
}

/// g ← g min(1, c / (‖g‖ + 1e-6)), as PyTorch's clip_grad_norm_
template <class T>
void clip(VectorView<T> gradient, double limit) {
  const double norm = std::sqrt(engine::kernels<T>().sum_of_squares(gradient.size(), gradient.data()));
  const double factor = limit / (norm + 1e-6);
  if (factor < 1) gradient *= static_cast<T>(factor);
}

/// The parameters of the epoch with the lowest loss, and how long ago that was.
template <class T>
class EarlyStopping {
 public:
  EarlyStopping(Index patience, Index parameters) : patience_(patience), best_(parameters) {}

  /// True if the patience has come to its end.
  bool epoch_done(Index epoch, double loss, ConstVectorView<T> parameters) {
    if (loss < best_loss_) {
      best_loss_ = loss;
      best_epoch_ = epoch;
      best_ = parameters;
    }
    return epoch - best_epoch_ >= patience_;
  }
  Index best_epoch() const { return best_epoch_; }
  const Vector<T>& best() const { return best_; }

 private:
  Index patience_, best_epoch_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity();
  Vector<T> best_;
};

}  // namespace

template <class T>
History fit(Network<T>& network, const Loss& loss, const Samples<T>& samples, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers) {
  const Index n = samples.X.rows();
  check(options, n);
  optimizer.attach(network);
  const Index batch_size = std::min(options.batch_size, n);
  const Index steps_per_epoch = (n + batch_size - 1) / batch_size;
  Tape<T> tape(network, batch_size);

  const bool whole_gradient =
      options.clip_norm || std::any_of(observers.begin(), observers.end(), [](auto* o) { return o->wants_gradient(); });
  Buffer<T> gradient_memory(whole_gradient ? network.parameter_count() : 0);
  VectorView<T> whole(gradient_memory.data(), gradient_memory.size());

  std::vector<Index> order;
  if (options.shuffle) order.resize(static_cast<std::size_t>(n));
  std::optional<EarlyStopping<T>> early;
  if (options.patience) early.emplace(*options.patience, network.parameter_count());

  History history;
  FitState<T> state(network, optimizer, tape, options);
  LearningRate rate(options.schedule, state.lr);
  struct RestoreRate {
    const FitState<T>& state;
    ~RestoreRate() { state.optimizer.set_lr(state.lr); }
  } const restore{state};

  for (state.epoch = 1; state.epoch <= options.epochs && !state.stop; ++state.epoch) {
    if (options.shuffle) {
      Random random(options.seed,
                    (std::uint64_t{1} << 32) + static_cast<std::uint64_t>(options.epochs_before + state.epoch));
      shuffle(order, random);
    }
    double total = 0, total_penalty = 0, total_weight = 0;
    for (Index first = 0; first < n && !state.stop; first += batch_size) {
      const Index size = std::min(batch_size, n - first);
      const Batch<T> batch =
          options.shuffle ? Batch<T>{samples, size, order.data() + first} : Batch<T>{samples.from(first), size};
      optimizer.set_lr(rate.at({state.epoch - 1, options.epochs, state.step, steps_per_epoch}));
      ++state.step;
      const double weight = batch.weight();
      if (weight == 0) continue;  // such a batch says nothing
      tape.set_draw(MaskDraw{options.seed,
                             (std::uint64_t{2} << 32) + static_cast<std::uint64_t>(options.epochs_before + state.epoch),
                             first});
      state.penalty = penalty(network, options.objective) / weight;

      if (whole_gradient) {
        state.loss = gradient(network, loss, batch, tape, whole, options.objective);
        if (!std::isfinite(state.loss)) throw NonFiniteLoss(state.loss, place(state));
        state.gradient = whole.data();
        for (Observer<T>* observer : observers) observer->gradient_ready(state);
        state.gradient = nullptr;
        if (options.clip_norm) clip(whole, *options.clip_norm);
        optimizer.step(network, {whole.data(), whole.size()});
      } else {
        state.loss = step(network, loss, batch, tape, optimizer, options.objective);
        if (!std::isfinite(state.loss)) throw NonFiniteLoss(state.loss, place(state));
      }
      total += state.loss * weight;
      total_penalty += state.penalty * weight;
      total_weight += weight;
      for (Observer<T>* observer : observers) observer->step_done(state);
    }
    if (state.stop) {  // in mid-epoch, which does not count
      history.stopped_early = true;
      break;
    }

    state.loss = total / total_weight;
    state.penalty = total_penalty / total_weight;
    if (validation) state.validation_loss = evaluate(network, loss, *validation);
    const double watched = state.validation_loss.value_or(state.loss);
    history.loss.push_back(state.loss);
    history.penalty.push_back(state.penalty);
    if (validation) history.validation_loss.push_back(*state.validation_loss);
    history.lr.push_back(optimizer.lr());
    history.epochs = state.epoch;
    rate.epoch_done(watched);
    const double lr = state.lr;
    for (Observer<T>* observer : observers) observer->epoch_done(state);
    if (state.lr != lr) rate = LearningRate(options.schedule, state.lr);
    if (early && early->epoch_done(state.epoch, watched, std::as_const(network).parameters())) state.stop = true;
    history.stopped_early = state.stop && state.epoch < options.epochs;
  }
  if (early && early->best_epoch() > 0) {
    network.parameters() = early->best();
    history.best_epoch = early->best_epoch();
  }
  return history;
}

template History fit(Network<float>&, const Loss&, const Samples<float>&, const Samples<float>*, Optimizer<float>&,
                     const FitOptions&, const std::vector<Observer<float>*>&);
template History fit(Network<double>&, const Loss&, const Samples<double>&, const Samples<double>*, Optimizer<double>&,
                     const FitOptions&, const std::vector<Observer<double>*>&);

}  // namespace chainrule
