#include "chainrule/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "chainrule/random.hpp"
#include "engine/kernels.hpp"

namespace chainrule {

namespace {

void check(const FitOptions& options) {
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
  if (options.micro_batch) positive("micro_batch", *options.micro_batch);
  check(options.schedule);
}

/// g ← g min(1, c / (‖g‖ + 1e-6)), as PyTorch's clip_grad_norm_
template <class T>
void clip(VectorView<T> gradient, double limit) {
  const double norm = std::sqrt(engine::kernels<T>().sum_of_squares(gradient.size(), gradient.data()));
  const double factor = limit / (norm + 1e-6);
  if (factor < 1) gradient *= static_cast<T>(factor);
}

/// The samples that each step of a block takes: in their order, or shuffled. Of what the steps of all ranks take, those
/// that are here.
template <class T>
class Batches {
 public:
  Batches(Index size, Ranks* ranks) : size_(size), first_(ranks ? ranks->first : 0), ranks_(ranks) {}

  void begin(const Samples<T>& block, Random* random) {
    block_ = &block;
    here_ = block.X.rows();
    all_ = ranks_ ? ranks_->rows : here_;
    if (random) {
      order_.resize(static_cast<std::size_t>(all_));
      shuffle(order_, *random);
      if (here_ != all_) keep_mine();
    }
    weights_.resize(static_cast<std::size_t>(count()));
    for (Index i = 0; i < count(); ++i) weights_[static_cast<std::size_t>(i)] = cut(start(i), start(i + 1)).weight();
    if (ranks_) ranks_->sum(weights_.data(), count());
  }

  Index count() const { return (all_ + size_ - 1) / size_; }
  /// Where batch i starts in the order of the samples that are here.
  Index start(Index i) const {
    if (starts_.empty()) return std::clamp<Index>(i * size_ - first_, 0, here_);
    return i < count() ? starts_[static_cast<std::size_t>(i)] : here_;
  }
  /// Of batch i, over all ranks.
  double weight(Index i) const { return weights_[static_cast<std::size_t>(i)]; }

  /// The samples from place `from` in the order to before place `to`.
  Batch<T> cut(Index from, Index to, double whole_weight = 0) const {
    if (order_.empty()) return {block_->from(from), to - from, nullptr, whole_weight};
    return {*block_, to - from, order_.data() + from, whole_weight};
  }

 private:
  void keep_mine() {
    starts_.clear();
    Index kept = 0;
    for (Index i = 0; i < all_; ++i) {
      if (i % size_ == 0) starts_.push_back(kept);
      const Index row = order_[static_cast<std::size_t>(i)] - first_;
      if (row >= 0 && row < here_) order_[static_cast<std::size_t>(kept++)] = row;
    }
  }

  Index size_, first_;
  Ranks* ranks_;
  const Samples<T>* block_ = nullptr;
  Index here_ = 0, all_ = 0;
  std::vector<Index> order_, starts_;
  std::vector<double> weights_;
};

template <class T>
class OneBlock : public Source<T> {
 public:
  explicit OneBlock(const Samples<T>& samples) : samples_(samples) {}
  Index rows() const override { return samples_.X.rows(); }
  const Samples<T>* next() override {
    given_ = !given_;
    return given_ ? &samples_ : nullptr;
  }

 private:
  const Samples<T>& samples_;
  bool given_ = false;
};

/// The loss of the validation samples of all ranks.
template <class T>
double validate(const Network<T>& network, const Loss& loss, const Samples<T>& validation, Ranks* ranks) {
  const double mean = evaluate(network, loss, validation);
  if (!ranks) return mean;
  const double weight = Batch<T>{validation, validation.X.rows()}.weight();
  double sums[] = {mean * weight, weight};
  ranks->sum(sums, 2);
  return sums[0] / sums[1];
}

}  // namespace

template <class T>
History fit(Network<T>& network, const Loss& loss, Source<T>& source, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers,
            FitProgress<T> progress) {
  check(options);
  optimizer.attach(network);
  Ranks* const ranks = options.ranks;
  const Index n = ranks ? ranks->rows : source.rows();
  const Index batch_size = n > 0 ? std::min(options.batch_size, n) : options.batch_size;
  const Index steps_per_epoch = (n + batch_size - 1) / batch_size;
  const Index part_size = std::min(options.micro_batch.value_or(batch_size), batch_size);
  Tape<T> tape(network, source.rows() > 0 ? std::min(part_size, source.rows()) : 1);

  // The gradient, and behind it the loss, which is summed over the ranks with it.
  Buffer<T> gradient_memory;
  Batches<T> batches(batch_size, ranks);
  History& history = progress.history;
  FitState<T> state(network, optimizer, tape, options, progress);
  if (history.epochs == 0) progress.rate = {state.lr};
  LearningRate rate(options.schedule, progress.rate);
  struct RestoreRate {
    const FitState<T>& state;
    ~RestoreRate() { state.optimizer.set_lr(state.lr); }
  } const restore{state};

  for (state.epoch = history.epochs + 1; state.epoch <= options.epochs && !state.stop; ++state.epoch) {
    if (state.lr != rate.state().start) rate = LearningRate(options.schedule, state.lr);
    const auto epoch = static_cast<std::uint64_t>(options.epochs_before + state.epoch);
    Random random(options.seed, (std::uint64_t{1} << 32) + epoch);
    double total = 0, total_penalty = 0, total_weight = 0;
    bool any_batch = false, finite = true;
    Index rows_before = ranks ? ranks->first : 0;
    while (const Samples<T>* block = source.next()) {
      const Index rows = block->X.rows();
      batches.begin(*block, options.shuffle ? &random : nullptr);
      const bool last_block = source.rows() == 0 || rows_before - (ranks ? ranks->first : 0) + rows == source.rows();
      for (Index b = 0; b < batches.count() && !state.stop; ++b) {
        const Index first = batches.start(b), last = batches.start(b + 1);
        const double weight = batches.weight(b);
        const auto draw_of = [&](Index row) {
          return MaskDraw{options.seed, (std::uint64_t{2} << 32) + epoch, rows_before + row};
        };
        optimizer.set_lr(rate.at({state.epoch - 1, options.epochs, state.step, steps_per_epoch}));
        ++state.step;
        state.last_of_epoch = last_block && b + 1 == batches.count();
        if (weight == 0) continue;  // such a batch says nothing
        any_batch = true;
        state.penalty = penalty(network, options.objective) / weight;
        const Index tape_rows = std::min(part_size, last - first);
        if (tape_rows > 0 && !tape.fits(tape_rows)) tape = Tape<T>(network, std::min(part_size, rows));

        if (options.clip_norm || ranks || part_size < batch_size ||
            std::any_of(
                observers.begin(), observers.end(), [&](auto* observer) { return observer->wants_gradient(state); })) {
          const Index parameters = network.parameter_count();
          if (gradient_memory.size() == 0) gradient_memory = Buffer<T>(parameters + 1);
          VectorView<T> whole(gradient_memory.data(), parameters);
          state.loss = 0;
          if (first == last) whole.setZero();
          for (Index from = first; from < last; from += part_size) {
            tape.set_draw(draw_of(from));
            const Batch<T> part = batches.cut(from, std::min(from + part_size, last), weight);
            state.loss += gradient(network, loss, part, tape, whole, {options.objective.loss_weight}, from > first);
          }
          if (ranks) {
            gradient_memory.data()[parameters] = static_cast<T>(state.loss);
            ranks->sum(gradient_memory.data(), parameters + 1);
            state.loss = static_cast<double>(gradient_memory.data()[parameters]);
          }
          add_penalty_gradient(network, options.objective, weight, whole);
          finite = std::isfinite(state.loss) && engine::kernels<T>().all_finite(parameters, gradient_memory.data());
          if (finite) {
            state.gradient = gradient_memory.data();
            for (Observer<T>* observer : observers) observer->gradient_ready(state);
            state.gradient = nullptr;
            if (options.clip_norm) clip(whole, *options.clip_norm);
            optimizer.step(network, {gradient_memory.data(), parameters});
          }
        } else {
          tape.set_draw(draw_of(first));
          state.loss = step(network, loss, batches.cut(first, last), tape, optimizer, options.objective);
          finite = std::isfinite(state.loss);
        }
        if (!finite) {
          ++history.steps_left_out;
          for (Index from = first; from < last && !history.non_finite; from += part_size)
            history.non_finite =
                find_non_finite(network, loss, batches.cut(from, std::min(from + part_size, last), weight),
                                options.objective, draw_of(from), rows_before + (options.shuffle ? 0 : from));
          // A sum of parts that are finite, or a part of another rank.
          if (!history.non_finite) history.non_finite = NonFinite{.layer = network.depth(), .value = state.loss};
          if (history.steps_left_out == 1) {
            history.non_finite->epoch = state.epoch;
            history.non_finite->batch = b + 1;
            history.non_finite->step = state.step;
          }
          if (options.on_non_finite == OnNonFinite::raise) throw NonFiniteError(*history.non_finite);
          state.stop = options.on_non_finite == OnNonFinite::stop;
          continue;
        }
        total += state.loss * weight;
        total_penalty += state.penalty * weight;
        total_weight += weight;
        for (Observer<T>* observer : observers) observer->step_done(state);
      }
      if (state.stop) break;
      rows_before += rows;
    }
    if (state.stop) break;  // in mid-epoch, which does not count

    if (!any_batch)
      throw std::invalid_argument("X gave no samples in epoch " + std::to_string(state.epoch) +
                                  "; expected some, and the same ones in each epoch");
    state.loss = total / total_weight;
    state.penalty = total_penalty / total_weight;
    if (validation) state.validation_loss = validate(network, loss, *validation, ranks);
    const double watched = state.validation_loss.value_or(state.loss);
    history.loss.push_back(state.loss);
    history.penalty.push_back(state.penalty);
    if (validation) history.validation_loss.push_back(*state.validation_loss);
    history.lr.push_back(optimizer.lr());
    history.epochs = state.epoch;
    rate.epoch_done(watched);
    progress.rate = rate.state();
    progress.step = state.step;
    if (options.patience) {
      Best<T>& best = progress.best;
      if (watched < best.loss) {
        best.epoch = state.epoch;
        best.loss = watched;
        best.parameters = network.parameters();
      }
      state.stop = state.epoch - best.epoch >= *options.patience;
    }
    for (Observer<T>* observer : observers) observer->epoch_done(state);
  }
  history.stopped_early = state.stop && history.epochs < options.epochs;
  for (Observer<T>* observer : observers) observer->fit_done(state);
  if (progress.best.epoch > 0) {
    network.parameters() = progress.best.parameters;
    history.best_epoch = progress.best.epoch;
  }
  return history;
}

template <class T>
History fit(Network<T>& network, const Loss& loss, const Samples<T>& samples, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers,
            FitProgress<T> progress) {
  if (samples.X.rows() < 1) throw std::invalid_argument("X has no rows; expected at least one");
  OneBlock<T> source(samples);
  return fit(network, loss, source, validation, optimizer, options, observers, std::move(progress));
}

#define CHAINRULE_INSTANTIATE(T)                                                                                  \
  template History fit(Network<T>&, const Loss&, Source<T>&, const Samples<T>*, Optimizer<T>&, const FitOptions&, \
                       const std::vector<Observer<T>*>&, FitProgress<T>);                                         \
  template History fit(Network<T>&, const Loss&, const Samples<T>&, const Samples<T>*, Optimizer<T>&,             \
                       const FitOptions&, const std::vector<Observer<T>*>&, FitProgress<T>);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
