#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "chainrule/backprop.hpp"
#include "chainrule/non_finite.hpp"
#include "chainrule/ranks.hpp"
#include "chainrule/schedule.hpp"

namespace chainrule {

/// What to do about a step whose loss or gradient is not finite. It is never taken.
enum class OnNonFinite {
  raise,   // throw NonFiniteError
  stop,    // end the fit
  ignore,  // go on with the next batch
};

struct FitOptions {
  Index epochs = 1;
  Index batch_size = 32;
  bool shuffle = true;
  std::uint64_t seed = 0;  // of the shuffles
  /// In place of shuffles by `seed`, fills in the order of a block's samples: a permutation of 0 … n-1.
  std::function<void(std::vector<Index>&)> draw_order;
  Index epochs_before = 0;  // epochs of earlier fits: the shuffles go on where those ended
  std::optional<Index> patience;
  Schedule schedule = ConstantRate{};
  std::optional<double> clip_norm;
  Objective objective;
  std::optional<Index> micro_batch;  // most rows at a time: a batch's gradient is summed over its parts
  Ranks* ranks = nullptr;
  bool batches_count_by_rows = false;  // in the loss of an epoch, and not by the sum of their weights
  OnNonFinite on_non_finite = OnNonFinite::raise;
};

struct History {
  std::vector<double> loss;             // mean over each epoch
  std::vector<double> penalty;          // mean over each epoch of what the objective adds to the loss
  std::vector<double> validation_loss;  // after each epoch; empty without validation samples
  std::vector<double> lr;               // at the end of each epoch
  Index epochs = 0;
  std::optional<Index> best_epoch;  // 1-based, of the parameters that were kept, with patience
  bool stopped_early = false;
  std::optional<NonFinite> non_finite;  // of the first step that was left out
  Index steps_left_out = 0;
};

/// The parameters of the epoch with the lowest loss, and what that was.
template <class T>
struct Best {
  Index epoch = 0;
  double loss = std::numeric_limits<double>::infinity();
  Vector<T> parameters;
};

/// Where a fit stands after an epoch, beside network and optimizer: from there one goes on as if it had never stopped.
template <class T>
struct FitProgress {
  History history;
  Index step = 0;  // done, over all epochs
  LearningRate::State rate{};
  Best<T> best;          // with patience
  bool stopped = false;  // before all epochs were done, by patience or an observer
};

/// What an observer sees. Any of them may set `stop`.
template <class T>
struct FitState {
  Network<T>& network;
  Optimizer<T>& optimizer;
  Tape<T>* tape;
  const FitOptions& options;
  const FitProgress<T>& progress;  // as of the last whole epoch, at `epoch_done` of this one
  Index epoch = 0;                 // from 1
  Index step = 0;                  // from 1, over all epochs
  const Index steps_before;        // done before this fit began, where it goes on from another
  double loss = 0;                 // of the step, at `epoch_done` of the epoch
  double penalty = 0;              // what the objective adds to the loss, likewise
  double lr;  // what the schedule multiplies, and the optimizer has at `epoch_done`; may be set there
  std::optional<double> validation_loss;
  T* gradient = nullptr;                          // laid out like θ, at `gradient_ready`; else nullptr
  const std::vector<TensorSums>* sums = nullptr;  // of W_1, b_1, W_2, …, at `step_done` where they are wanted
  bool left_out = false;                          // the step, for it was not finite
  bool last_of_epoch = false;                     // or of a block, where nobody knows how many there are
  bool stop = false;

  FitState(Network<T>& network, Optimizer<T>& optimizer, Tape<T>* tape, const FitOptions& options,
           const FitProgress<T>& progress)
      : network(network),
        optimizer(optimizer),
        tape(tape),
        options(options),
        progress(progress),
        step(progress.step),
        steps_before(progress.step),
        lr(optimizer.lr()),
        stop(progress.stopped) {}
};

/// The one seam of the training loop. An observer that wants the gradient makes the step write it whole; sums are taken
/// on the way, and the others cost a call.
template <class T>
class Observer {
 public:
  virtual ~Observer() = default;
  virtual bool wants_gradient(const FitState<T>&) const { return false; }  // of the step that comes
  virtual bool wants_sums(const FitState<T>&) const { return false; }      // likewise
  /// In a step whose sums are wanted, once for each part of the batch, or for all of it, while the tape holds that.
  virtual void rows_done(FitState<T>&) {}
  virtual void gradient_ready(FitState<T>&) {}
  virtual void step_done(FitState<T>&) {}  // or left out
  virtual void epoch_done(FitState<T>&) {}
  virtual void fit_done(FitState<T>&) {}  // with the last batch, if there was one, still on the tape
  /// Now and then while parts of a batch or validation samples are worked through. It may throw.
  virtual void meanwhile() {}
};

/// Where the samples come from: block by block, the same ones in each epoch. Only one block is in memory at a time.
template <class T>
class Source {
 public:
  virtual ~Source() = default;
  /// Samples of an epoch; 0 where that is not known. Schedules by steps take it that all blocks but the last are of
  /// whole batches.
  virtual Index rows() const = 0;
  /// The epoch's next block, or nullptr at its end; then the next epoch begins.
  virtual const Samples<T>* next() = 0;
};

/// Trains: for each epoch, for each block, for each batch, a step. The last batch of a block may be short; shuffling is
/// within a block. With `progress`, and with network and optimizer as they were then, it goes on from there. A `tape`
/// that is large enough is used instead of a new one.
template <class T>
History fit(Network<T>& network, const Loss& loss, Source<T>& source, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers = {},
            FitProgress<T> progress = {}, std::shared_ptr<Tape<T>> tape = nullptr);

/// All samples are one block.
template <class T>
History fit(Network<T>& network, const Loss& loss, const Samples<T>& samples, const Samples<T>* validation,
            Optimizer<T>& optimizer, const FitOptions& options, const std::vector<Observer<T>*>& observers = {},
            FitProgress<T> progress = {}, std::shared_ptr<Tape<T>> tape = nullptr);

}  // namespace chainrule
