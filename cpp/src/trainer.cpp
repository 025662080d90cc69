#include "chainrule/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "batches.hpp"
#include "chainrule/random.hpp"
#include "checks.hpp"
#include "engine/kernels.hpp"
#include "number.hpp"
#include "tensor_sums.hpp"
#include "tree_sum.hpp"
#include "validation.hpp"

namespace chainrule {

namespace {

void check(const FitOptions& options, Index rows) {
  const auto positive = [](const char* what, Index value) {
    if (value < 1)
      throw std::invalid_argument(std::string(what) + " is " + std::to_string(value) + "; expected at least 1");
  };
  positive("epochs", options.epochs);
  positive("batch_size", options.batch_size);
  if (options.patience) positive("patience", *options.patience);
  const auto [loss_weight, l2] = options.objective;
  require(loss_weight > 0, "loss_weight", loss_weight, "a finite number > 0");
  require(l2 >= 0, "l2", l2, "a finite number >= 0");
  if (options.clip_norm && !(*options.clip_norm > 0))
    throw std::invalid_argument("clip_norm is " + text_of(*options.clip_norm) + "; expected a number > 0");
  if (options.micro_batch) positive("micro_batch", *options.micro_batch);
  check(options.schedule);
  if (rows == 0 && by_steps(options.schedule))
    throw std::invalid_argument(std::string("schedule is ") + name(options.schedule) +
                                ", which needs the number of steps; a source of unknown length does not tell it");
}

/// g ← g min(1, c / (‖g‖ + 1e-6)), as PyTorch's clip_grad_norm_
template <class T>
void clip(VectorView<T> gradient, double limit) {
  double norm = std::sqrt(engine::kernels<T>().sum_of_squares(gradient.size(), gradient.data()));
  if (!std::isfinite(norm)) norm = static_cast<double>(gradient.stableNorm());
  const double factor = limit / (norm + 1e-6);
  if (factor < 1) gradient *= static_cast<T>(factor);
}

/// Rows of the parts that a reproducible fit sums over: few, so that there are some for each rank; but each part makes
/// another pass over the gradient.
Index reproducible_part(Index batch_size) { return std::clamp<Index>(batch_size / 32, 16, 256); }

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

/// One fit: for each epoch, for each block, for each batch, a step.
template <class T>
class Fit {
 public:
  Fit(Network<T>& network, const Loss& loss, Source<T>& source, const Samples<T>* validation, Optimizer<T>& optimizer,
      const FitOptions& options, const std::vector<Observer<T>*>& observers, FitProgress<T> progress,
      std::shared_ptr<Tape<T>> tape)
      : network_(network),
        loss_(loss),
        source_(source),
        validation_(validation),
        optimizer_(optimizer),
        options_(options),
        observers_(observers),
        ranks_(options.ranks),
        rows_(ranks_ ? ranks_->rows : source.rows()),
        batch_size_(rows_ > 0 ? std::min(options.batch_size, rows_) : options.batch_size),
        most_at_a_time_(std::min(
            options.micro_batch.value_or(reproducible() ? reproducible_part(batch_size_) : batch_size_), batch_size_)),
        progress_(std::move(progress)),
        tape_(std::move(tape)),
        state_(network, optimizer, tape_.get(), options, progress_),
        batches_(batch_size_, network, ranks_),
        rate_(options.schedule, progress_.history.epochs > 0 ? progress_.rate : LearningRate::State{state_.lr}) {}

  ~Fit() {
    if (std::isfinite(state_.lr) && state_.lr >= 0)
      optimizer_.set_lr(state_.lr);  // what else an observer set was refused
    if (tape_) tape_->set_draw({});
  }
  Fit(const Fit&) = delete;
  Fit& operator=(const Fit&) = delete;

  History run() {
    History& history = progress_.history;
    while (history.epochs < options_.epochs && !state_.stop) {
      state_.epoch = history.epochs + 1;
      train_epoch();
      if (!state_.stop) end_epoch();  // an epoch that stops in its midst does not count
    }
    history.stopped_early = state_.stop && history.epochs < options_.epochs;
    for (Observer<T>* observer : observers_) observer->fit_done(state_);
    if (progress_.best.epoch > 0) {
      network_.parameters() = progress_.best.parameters;
      history.best_epoch = progress_.best.epoch;
    }
    return std::move(history);
  }

 private:
  void train_epoch() {
    if (state_.lr != rate_.state().start) rate_ = LearningRate(options_.schedule, state_.lr);
    epoch_stream_ = static_cast<std::uint64_t>(options_.epochs_before + state_.epoch);
    Random random(options_.seed, (std::uint64_t{1} << 32) + epoch_stream_);
    const auto draw_order = [&](std::vector<Index>& order) {
      options_.draw_order ? options_.draw_order(order) : shuffle(order, random);
    };
    total_ = total_penalty_ = total_share_ = 0;
    any_batch_ = false;
    rows_before_ = first_row();
    while (const Samples<T>* block = source_.next()) {
      batches_.begin(*block, options_.shuffle ? &draw_order : nullptr);
      const Index rows = block->X.rows();
      const Index last = batches_.last();
      const bool last_block = source_.rows() == 0 || rows_before_ - first_row() + rows == source_.rows();
      for (Index b = 0; b < batches_.count(); ++b) {
        train_batch(b, last_block && b == last);
        if (state_.stop) return;
      }
      rows_before_ += rows;
    }
    if (!any_batch_)
      throw std::invalid_argument("X gave no samples with a weight in epoch " + std::to_string(state_.epoch) +
                                  "; expected some, and the same ones in each epoch");
  }

  void train_batch(Index b, bool last_of_epoch) {
    batches_.go_to(b);
    step_.first = batches_.start(b);
    step_.last = batches_.start(b + 1);
    step_.weight = batches_.weight();
    set_rate();
    ++state_.step;
    state_.last_of_epoch = last_of_epoch;
    if (step_.weight == 0) return;  // such a batch says nothing
    any_batch_ = true;
    make_tape();
    const bool wanted =
        std::any_of(observers_.begin(), observers_.end(), [&](const Observer<T>* o) { return o->wants_sums(state_); });
    step_.sums = wanted ? &sums_ : nullptr;
    state_.penalty = penalty(network_, options_.objective) / step_.weight;
    state_.left_out = !(needs_gradient() ? step_by_gradient() : fused_step());
    if (state_.left_out)
      note_left_out();
    else
      count_in(options_.batches_count_by_rows ? static_cast<double>(batches_.size(b)) : step_.weight);
    state_.sums = step_.sums;
    for (Observer<T>* observer : observers_) observer->step_done(state_);
    state_.sums = nullptr;
    if (!state_.left_out) return;
    if (options_.on_non_finite == OnNonFinite::raise) throw NonFiniteError(*progress_.history.non_finite);
    if (options_.on_non_finite == OnNonFinite::stop) state_.stop = true;
  }

  void set_rate() {
    const Index steps_per_epoch = engine::parts_of(rows_, batch_size_);
    const double lr = rate_.at({state_.epoch - 1, options_.epochs, state_.step, steps_per_epoch});
    if (!std::isfinite(static_cast<T>(lr)))
      throw std::overflow_error((std::holds_alternative<ConstantRate>(options_.schedule)
                                     ? std::string("lr is")
                                     : std::string("schedule ") + name(options_.schedule) + " takes lr") +
                                " beyond the range of the network's dtype in epoch " + std::to_string(state_.epoch));
    optimizer_.set_lr(lr);
  }

  /// Room for the rows of the step that are on it at a time.
  void make_tape() {
    const TapeContents contents{.inputs = !batches_.cut(step_.first, step_.last).samples.X.mostly_zeros()};
    step_.part_size = rows_at_a_time(network_, most_at_a_time_, contents);
    if (tape_ && tape_->fits(std::min(step_.part_size, step_.last - step_.first), contents)) return;
    const Index most_rows = std::min(step_.part_size, std::max<Index>(1, batches_.rows()));
    tape_ = std::make_shared<Tape<T>>(network_, most_rows, contents);
    state_.tape = tape_.get();
  }

  /// Adds the step to the means of the epoch.
  void count_in(double share) {
    total_ += state_.loss * share;
    total_penalty_ += state_.penalty * share;
    total_share_ += share;
  }

  bool needs_gradient() const {
    return options_.clip_norm || ranks_ || step_.part_size < batch_size_ || observed_gradient();
  }
  bool observed_gradient() const {
    return std::any_of(observers_.begin(), observers_.end(),
                       [&](const Observer<T>* observer) { return observer->wants_gradient(state_); });
  }

  /// Both kinds of step tell whether loss and gradient are finite; if not, nothing was updated, and the sums are those
  /// of the objective's gradient alone.
  bool fused_step() {
    tape_->set_draw(draw(step_.first));
    state_.loss = step(network_, loss_, batches_.cut(step_.first, step_.last), *tape_, optimizer_, options_.objective,
                       step_.sums);
    const bool finite = std::isfinite(state_.loss);
    if (step_.sums && finite) rows_done();
    if (step_.sums && !finite) {
      const VectorView<T> whole(sum_of_parts(), network_.parameter_count());
      add_penalty_gradient(network_, options_.objective, step_.weight, whole);
      *step_.sums = tensor_sums(network_, whole.data());
    }
    return finite;
  }

  bool step_by_gradient() {
    const Index parameters = network_.parameter_count();
    T* const data = reproducible() ? tree_sum() : sum_of_parts();
    std::vector<TensorSums>* const sums = step_.sums;
    VectorView<T> whole(data, parameters);
    add_penalty_gradient(network_, options_.objective, step_.weight, whole);
    if (!std::isfinite(state_.loss) || !engine::kernels<T>().all_finite(parameters, data)) {
      if (sums) *sums = tensor_sums(network_, data);
      return false;
    }
    state_.gradient = data;
    for (Observer<T>* observer : observers_) observer->gradient_ready(state_);
    state_.gradient = nullptr;
    if (observed_gradient() && !engine::kernels<T>().all_finite(parameters, data)) {  // they changed it
      if (sums) *sums = tensor_sums(network_, data);
      return false;
    }
    std::vector<TensorSums> unclipped;
    if (sums && options_.clip_norm) unclipped = tensor_sums(network_, data);
    if (options_.clip_norm) clip(whole, *options_.clip_norm);
    optimizer_.step(network_, {data, parameters}, sums);
    for (std::size_t i = 0; i < unclipped.size(); ++i) (*sums)[i].gradient = unclipped[i].gradient;
    return true;
  }

  /// Gradient and loss of the batch, side by side, and in `state_.loss`.
  T* sum_of_parts() {
    const Index parameters = network_.parameter_count();
    if (gradient_and_loss_.size() == 0) gradient_and_loss_ = Buffer<T>(parameters + 1);
    T* const data = gradient_and_loss_.data();
    state_.loss = 0;
    if (step_.first == step_.last) VectorView<T>(data, parameters).setZero();
    for (Index from = step_.first; from < step_.last; from += step_.part_size)
      state_.loss += part_gradient(from, data, from > step_.first);
    if (ranks_) {
      data[parameters] = static_cast<T>(state_.loss);
      ranks_->sum(data, parameters + 1);
      state_.loss = static_cast<double>(data[parameters]);
    }
    return data;
  }

  /// The same, to the same bits for any number of ranks.
  T* tree_sum() {
    const Index parameters = network_.parameter_count();
    if (!tree_) tree_.emplace(*ranks_, parameters + 1);
    const Index parts = engine::parts_of(step_.last - step_.first, step_.part_size);
    T* const data = tree_->sum(parts, [&](Index i, T* to, bool add) {
      const T loss = static_cast<T>(part_gradient(step_.first + i * step_.part_size, to, add));
      to[parameters] = add ? to[parameters] + loss : loss;
    });
    state_.loss = static_cast<double>(data[parameters]);
    return data;
  }

  /// The gradient of the part of a batch that starts at place `from`; returns its loss.
  double part_gradient(Index from, T* to, bool add) {
    tape_->set_draw(draw(from));
    meanwhile();
    const Batch<T> part = part_from(from);
    const VectorView<T> whole(to, network_.parameter_count());
    const double loss = gradient(network_, loss_, part, *tape_, whole, {options_.objective.loss_weight}, add);
    if (step_.sums) rows_done();
    return loss;
  }

  Batch<T> part_from(Index place) const {
    return batches_.cut(place, std::min(place + step_.part_size, step_.last), step_.weight);
  }

  void meanwhile() {
    for (Observer<T>* observer : observers_) observer->meanwhile();
  }

  void rows_done() {
    for (Observer<T>* observer : observers_) observer->rows_done(state_);
  }

  /// Tells of the first step that was left out where its numbers stopped being finite.
  void note_left_out() {
    History& history = progress_.history;
    ++history.steps_left_out;
    if (history.non_finite) return;
    const bool cut_knows_rows = options_.shuffle && !reproducible();
    std::optional<NonFinite> found;
    for (Index from = step_.first; from < step_.last && !found; from += step_.part_size) {
      meanwhile();
      found = find_non_finite(network_, loss_, part_from(from), options_.objective, draw(from),
                              rows_before_ + (cut_knows_rows ? 0 : from));
    }
    if (found && found->is_of_sample()) found->row = batches_.row(found->row);
    if (ranks_) found = found_by_any(found, *ranks_);
    // A sum of parts that are finite, or what an observer made of it.
    if (!found) found = NonFinite{.layer = network_.depth(), .value = state_.loss, .loss = state_.loss};
    found->epoch = state_.epoch;
    found->batch = state_.step - progress_.step;
    found->step = state_.step;
    history.non_finite = found;
  }

  void end_epoch() {
    History& history = progress_.history;
    state_.loss = total_ / total_share_;
    state_.penalty = total_penalty_ / total_share_;
    if (validation_) state_.validation_loss = validate(network_, loss_, *validation_, ranks_, [this] { meanwhile(); });
    const double watched = state_.validation_loss.value_or(state_.loss);
    history.loss.push_back(state_.loss);
    history.penalty.push_back(state_.penalty);
    if (validation_) history.validation_loss.push_back(*state_.validation_loss);
    history.lr.push_back(optimizer_.lr());
    history.epochs = state_.epoch;
    optimizer_.set_lr(state_.lr);
    rate_.epoch_done(watched);
    progress_.rate = rate_.state();
    progress_.step = state_.step;
    if (options_.patience) {
      Best<T>& best = progress_.best;
      if (watched < best.loss) {
        best.epoch = state_.epoch;
        best.loss = watched;
        best.parameters = network_.parameters();
      }
      state_.stop = state_.epoch - best.epoch >= *options_.patience;
    }
    for (Observer<T>* observer : observers_) {
      progress_.stopped = state_.stop;
      observer->epoch_done(state_);
    }
  }

  bool reproducible() const { return ranks_ && ranks_->reproducible; }
  Index first_row() const { return ranks_ && !reproducible() ? ranks_->first : 0; }

  MaskDraw draw(Index place) const {
    return {options_.seed, (std::uint64_t{2} << 32) + epoch_stream_, rows_before_ + place, batches_.places(place)};
  }

  Network<T>& network_;
  const Loss& loss_;
  Source<T>& source_;
  const Samples<T>* validation_;
  Optimizer<T>& optimizer_;
  const FitOptions& options_;
  const std::vector<Observer<T>*>& observers_;
  Ranks* ranks_;
  Index rows_, batch_size_, most_at_a_time_;  // of all ranks; of their steps; through the network
  FitProgress<T> progress_;
  std::shared_ptr<Tape<T>> tape_;
  FitState<T> state_;
  Batches<T> batches_;
  LearningRate rate_;
  Buffer<T> gradient_and_loss_;  // side by side, to be summed over the ranks as one
  std::optional<TreeSum<T>> tree_;
  std::vector<TensorSums> sums_;

  struct {
    Index first = 0, last = 0;                // places of its samples in the order of the block
    double weight = 0;                        // of those of all ranks
    Index part_size = 0;                      // rows that go through the network at a time
    std::vector<TensorSums>* sums = nullptr;  // if wanted
  } step_;

  // Of the epoch.
  std::uint64_t epoch_stream_ = 0;
  Index rows_before_ = 0;  // of the block, among those of all ranks
  double total_ = 0, total_penalty_ = 0, total_share_ = 0;
  bool any_batch_ = false;
};

template <class T>
History fit_source(Network<T>& network, const Loss& loss, Source<T>& source, const Samples<T>* validation,
                   Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers,
                   FitProgress<T> progress, std::shared_ptr<Tape<T>> tape) {
  check(options, source.rows());
  const History& done = progress.history;
  if (done.epochs < 0 || done.epochs > options.epochs || progress.step < 0 ||
      (progress.best.epoch > 0 && progress.best.parameters.size() != network.parameter_count()))
    throw std::invalid_argument("the progress is not one of such a fit of this network");
  check_output(loss, network.activation(network.depth()), network.outputs());
  // A rank need not hold any.
  if (validation && (validation->X.rows() > 0 || !options.ranks))
    check_batch(network, loss, Batch<T>{*validation, validation->X.rows()});
  optimizer.attach(network);
  return Fit<T>(network, loss, source, validation, optimizer, options, observers, std::move(progress), std::move(tape))
      .run();
}

}  // namespace

template <class T>
History fit(Network<T>& network, const Loss& loss, Source<T>& source, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers,
            FitProgress<T> progress, std::shared_ptr<Tape<T>> tape) {
  if (options.ranks)  // whose blocks would make other batches on each
    throw std::invalid_argument("ranks are given beside a source of blocks; expected samples, of each rank its own");
  return fit_source(network, loss, source, validation, optimizer, options, observers, std::move(progress),
                    std::move(tape));
}

template <class T>
History fit(Network<T>& network, const Loss& loss, const Samples<T>& samples, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers,
            FitProgress<T> progress, std::shared_ptr<Tape<T>> tape) {
  if (samples.X.rows() < 1) throw std::invalid_argument("X has no rows; expected at least one");
  check_batch(network, loss, Batch<T>{samples, samples.X.rows()});
  OneBlock<T> source(samples);
  return fit_source(network, loss, source, validation, optimizer, options, observers, std::move(progress),
                    std::move(tape));
}

#define CHAINRULE_INSTANTIATE(T)                                                                                  \
  template History fit(Network<T>&, const Loss&, Source<T>&, const Samples<T>*, Optimizer<T>&, const FitOptions&, \
                       const std::vector<Observer<T>*>&, FitProgress<T>, std::shared_ptr<Tape<T>>);               \
  template History fit(Network<T>&, const Loss&, const Samples<T>&, const Samples<T>*, Optimizer<T>&,             \
                       const FitOptions&, const std::vector<Observer<T>*>&, FitProgress<T>, std::shared_ptr<Tape<T>>);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
