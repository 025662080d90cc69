// Where a fit ends: patience, a stop, a number that is not finite; and going on from there.

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "chainrule/predict.hpp"
#include "training.hpp"

using namespace chainrule;
using support::same_bits;
using namespace training;

TEST_CASE_TEMPLATE("stopping: a stop in mid-epoch", T, float, double) {
  auto problem = sample<T>(), twin = sample<T>();
  Optimizer<T> optimizer(Adam{}), by_hand(Adam{});
  Callbacks<T> callbacks;
  int epochs = 0;
  callbacks.on_step = [&](FitState<T>& state) { state.stop = state.step == 5; };
  callbacks.on_epoch = [&](FitState<T>&) { ++epochs; };
  const History history = fit(problem, optimizer, in_order(4), {&callbacks});
  steps_by_hand(twin, by_hand, {0, 4, 8, 0, 4}, 4);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
  CHECK(optimizer.steps() == 5);
  CHECK(epochs == 1);
  CHECK(history.epochs == 1);
  CHECK(history.loss.size() == 1);
  CHECK(history.stopped_early);
}

TEST_CASE_TEMPLATE("stopping: a stop at the end of an epoch", T, float, double) {
  auto problem = sample<T>();
  Optimizer<T> optimizer(Adam{});
  Callbacks<T> callbacks;
  callbacks.on_epoch = [&](FitState<T>& state) { state.stop = state.epoch == 2; };
  History history = fit(problem, optimizer, in_order(4), {&callbacks});
  CHECK(optimizer.steps() == 6);
  CHECK(history.epochs == 2);
  CHECK(history.loss.size() == 2);
  CHECK(history.lr.size() == 2);
  CHECK(history.stopped_early);
  history = fit(problem, optimizer, in_order(2), {&callbacks});
  CHECK(history.epochs == 2);
  CHECK_FALSE(history.stopped_early);
}

TEST_CASE_TEMPLATE("stopping: patience stops, and brings the best parameters back", T, float, double) {
  // a = w x is trained towards y = 2 x and validated on y = x: from w = 0 the validation loss falls until w = 1, then
  // it grows.
  Network<T> network(1, {{1, Identity{}}});
  Matrix<T> X(4, 1), y, y_validation;
  X << -1, 1, -2, 2;
  y = 2 * X;
  y_validation = X;
  const ConstMatrixView<T> rows(X.data(), 4, 1, Eigen::OuterStride<>(1));
  const Samples<T> samples{rows, Targets<T>(y)}, validation{rows, Targets<T>(y_validation)};
  for (const Index patience : {1, 3, 100}) {
    CAPTURE(patience);
    network.parameters().setZero();
    Optimizer<T> optimizer(SGD{0.02});
    FitOptions options = in_order(40);
    options.patience = patience;
    std::vector<Vector<T>> after;
    Callbacks<T> callbacks;
    callbacks.on_epoch = [&](FitState<T>& state) {
      after.push_back(parameters(state.network));
      CHECK(state.validation_loss == evaluate<T>(state.network, MSE{}, validation));
    };
    const History history = chainrule::fit<T>(network, MSE{}, samples, &validation, optimizer, options, {&callbacks});
    const auto& losses = history.validation_loss;
    const auto best = std::min_element(losses.begin(), losses.end()) - losses.begin();
    CHECK(best > 2);
    CHECK(history.best_epoch == best + 1);
    CHECK(history.epochs == std::min<Index>(40, best + 1 + patience));
    CHECK(history.stopped_early == (patience < 100));
    CHECK(losses.size() == static_cast<std::size_t>(history.epochs));
    CHECK(same_bits(parameters(network), after[static_cast<std::size_t>(best)]));
    CHECK(evaluate<T>(network, MSE{}, validation) == losses[static_cast<std::size_t>(best)]);
  }
}

TEST_CASE_TEMPLATE("stopping: patience without validation watches the training loss; a tie is not better", T, float,
                   double) {
  auto problem = sample<T>();
  Optimizer<T> optimizer(SGD{0.0});
  FitOptions options = in_order(20);
  options.patience = 3;
  const History history = fit(problem, optimizer, options);
  CHECK(history.epochs == 4);
  CHECK(history.best_epoch == 1);
  CHECK(history.stopped_early);
}

TEST_CASE_TEMPLATE("stopping: a loss that is not finite throws, with the parameters from before that step", T, float,
                   double) {
  for (const bool whole : {false, true})
    for (const T bad : {std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN()}) {
      CAPTURE(whole);
      CAPTURE(bad);
      auto problem = sample<T>(), twin = sample<T>();
      problem.y(9, 2) = bad;  // in the third batch
      Adam rule;
      rule.lr = 0.25;
      Optimizer<T> optimizer(rule), by_hand(rule);
      Callbacks<T> callbacks;
      callbacks.whole = whole;
      FitOptions options = in_order(3);
      options.schedule = ExponentialDecay{0.5};
      std::string message;
      try {
        fit(problem, optimizer, options, {&callbacks});
      } catch (const NonFiniteError& error) {
        message = error.what();
      }
      CHECK(message.find("epoch 1, batch 3") != std::string::npos);
      steps_by_hand(twin, by_hand, {0, 4}, 4);
      CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
      CHECK(optimizer.steps() == 2);
      CHECK(optimizer.lr() == 0.25);
    }
}

TEST_CASE_TEMPLATE("stopping: a learning rate that is far too large ends in an error, not in NaN", T, float, double) {
  auto problem = sample<T>();
  Optimizer<T> optimizer(SGD{1e30});
  CHECK_THROWS_AS(fit(problem, optimizer, in_order(50)), NonFiniteError);
}

namespace {

/// Keeps what a checkpoint holds after some epoch.
template <class T>
struct Snapshot : Observer<T> {
  explicit Snapshot(Index epoch) : epoch(epoch) {}
  void epoch_done(FitState<T>& state) override {
    if (state.epoch != epoch) return;
    progress = state.progress;
    parameters = std::as_const(state.network).parameters();
    optimizer.emplace(state.optimizer);
  }
  Index epoch;
  FitProgress<T> progress;
  Vector<T> parameters;
  std::optional<Optimizer<T>> optimizer;
};

}  // namespace

TEST_CASE_TEMPLATE("stopping: a fit that goes on from its progress ends with the same bits", T, float, double) {
  for (const Schedule& schedule : {Schedule{Plateau{.patience = 0}}, Schedule{OneCycle{}}, Schedule{StepDecay{2}}}) {
    FitOptions options;
    options.epochs = 8;
    options.batch_size = 4;
    options.patience = 4;
    options.schedule = schedule;
    Problem<T> whole = sample<T>(), resumed = sample<T>();
    Optimizer<T> optimizer{Adam{}};
    Snapshot<T> snapshot(3);
    const History expected = fit(whole, optimizer, options, {&snapshot});

    // The moments of another network's optimizer, as a file brings them.
    Optimizer<T> other{snapshot.optimizer->rule()};
    other.restore(snapshot.optimizer->steps(), whole.network.parameter_count());
    for (int i = 0; i < max_moments; ++i)
      if (other.moment(i)) std::copy_n(snapshot.optimizer->moment(i), whole.network.parameter_count(), other.moment(i));
    resumed.network.parameters() = snapshot.parameters;
    const History history = chainrule::fit<T>(resumed.network, resumed.loss, resumed.samples(), nullptr, other, options,
                                              {}, snapshot.progress);
    CHECK(history.loss == expected.loss);
    CHECK(history.lr == expected.lr);
    CHECK(history.best_epoch == expected.best_epoch);
    CHECK(same_bits(resumed.network.parameters(), whole.network.parameters()));
  }
}

TEST_CASE_TEMPLATE("stopping: the progress tells of a stop", T, float, double) {
  Problem<T> problem = sample<T>();
  Optimizer<T> optimizer{SGD{}};
  Callbacks<T> stops, looks;
  std::vector<bool> stopped;
  stops.on_epoch = [](FitState<T>& state) { state.stop = state.epoch == 2; };
  looks.on_epoch = [&](FitState<T>& state) { stopped.push_back(state.progress.stopped); };
  fit(problem, optimizer, in_order(3), {&stops, &looks});
  CHECK(stopped == std::vector<bool>{false, true});
}
