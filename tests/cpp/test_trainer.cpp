// The training loop: batches, observers, stopping, clipping, schedules, and what it leaves behind when it fails.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "chainrule/gradient_flow.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/trainer.hpp"
#include "support.hpp"

using namespace chainrule;
using support::make_problem;
using support::Problem;
using support::same_bits;

namespace {

template <class T>
Problem<T> sample(Index rows = 10, bool weighted = false) {
  return make_problem<T>({{4, 7, 3}, rows, weighted}, {Tanh{}, Identity{}}, MSE{}, 1);
}

/// In order, by batches of 4.
FitOptions in_order(Index epochs = 1) {
  FitOptions options;
  options.epochs = epochs;
  options.batch_size = 4;
  options.shuffle = false;
  return options;
}

template <class T>
History fit(Problem<T>& problem, Optimizer<T>& optimizer, const FitOptions& options,
            const std::vector<Observer<T>*>& observers = {}) {
  return chainrule::fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, observers);
}

/// One step after another on the batches that begin at `firsts`.
template <class T>
void steps_by_hand(Problem<T>& problem, Optimizer<T>& optimizer, const std::vector<Index>& firsts, Index batch_size) {
  Tape<T> tape(problem.network, batch_size);
  for (const Index first : firsts) {
    const Batch<T> batch{problem.samples().from(first), std::min(batch_size, problem.X.rows() - first)};
    step<T>(problem.network, problem.loss, batch, tape, optimizer);
  }
}

/// Calls what it is given.
template <class T>
struct Callbacks : Observer<T> {
  std::function<void(FitState<T>&)> on_gradient, on_step, on_epoch;
  bool whole = false;

  bool wants_gradient(const FitState<T>&) const override { return whole; }
  void gradient_ready(FitState<T>& state) override {
    if (on_gradient) on_gradient(state);
  }
  void step_done(FitState<T>& state) override {
    if (on_step) on_step(state);
  }
  void epoch_done(FitState<T>& state) override {
    if (on_epoch) on_epoch(state);
  }
};

template <class T>
Vector<T> parameters(const Network<T>& network) {
  return network.parameters();
}

}  // namespace

TEST_CASE_TEMPLATE("trainer: an epoch is a step on each batch, the last one short", T, float, double) {
  for (const Index rows : {8, 9, 10, 11, 3}) {
    CAPTURE(rows);
    auto problem = sample<T>(rows), twin = sample<T>(rows);
    Optimizer<T> optimizer(Adam{}), by_hand(Adam{});
    const History history = fit(problem, optimizer, in_order(2));
    std::vector<Index> firsts;
    for (int epoch = 0; epoch < 2; ++epoch)
      for (Index first = 0; first < rows; first += 4) firsts.push_back(first);
    steps_by_hand(twin, by_hand, firsts, 4);
    CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
    CHECK(optimizer.steps() == static_cast<std::int64_t>(firsts.size()));
    CHECK(history.epochs == 2);
    CHECK(history.loss.size() == 2);
    CHECK(history.validation_loss.empty());
    CHECK_FALSE(history.best_epoch.has_value());
    CHECK_FALSE(history.stopped_early);
  }
}

TEST_CASE_TEMPLATE("trainer: the loss of an epoch is the mean over its samples", T, float, double) {
  for (const bool weighted : {false, true}) {
    auto problem = sample<T>(10, weighted);
    // With lr = 0 nothing moves: the mean over the batches is the loss over all.
    Optimizer<T> optimizer(SGD{0.0});
    const double loss = evaluate<T>(problem.network, problem.loss, problem.samples());
    const History history = fit(problem, optimizer, in_order());
    CHECK(history.loss[0] == doctest::Approx(loss).epsilon(16 * std::numeric_limits<T>::epsilon()));
  }
}

TEST_CASE_TEMPLATE("trainer: a batch larger than the data is all of it", T, float, double) {
  auto problem = sample<T>(), twin = sample<T>();
  Optimizer<T> optimizer(SGD{0.1}), by_hand(SGD{0.1});
  FitOptions options = in_order();
  options.batch_size = std::numeric_limits<Index>::max();
  fit(problem, optimizer, options);
  steps_by_hand(twin, by_hand, {0}, 10);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
}

TEST_CASE_TEMPLATE("trainer: batches without weight are skipped", T, float, double) {
  auto problem = sample<T>(12, true), twin = sample<T>(12, true);
  for (auto* each : {&problem, &twin}) {
    each->weight.setConstant(T(0.5));
    each->weight.segment(4, 4).setZero();
  }
  Optimizer<T> optimizer(Adam{}), by_hand(Adam{});
  Callbacks<T> callbacks;
  std::vector<Index> steps;
  callbacks.on_step = [&](FitState<T>& state) { steps.push_back(state.step); };
  const History history = fit(problem, optimizer, in_order(), {&callbacks});
  steps_by_hand(twin, by_hand, {0, 8}, 4);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
  CHECK(optimizer.steps() == 2);
  CHECK(steps == std::vector<Index>{1, 3});
  CHECK(std::isfinite(history.loss[0]));
}

TEST_CASE_TEMPLATE("trainer: shuffled, every sample comes once an epoch, in another order each time", T, float,
                   double) {
  auto problem = sample<T>(30);
  for (Index i = 0; i < 30; ++i) problem.X(i, 0) = static_cast<T>(i);
  FitOptions options;
  options.epochs = 3;
  options.batch_size = 7;
  const auto orders = [&](std::uint64_t seed, Index epochs_before) {
    options.seed = seed;
    options.epochs_before = epochs_before;
    std::vector<std::vector<T>> seen(3);
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) {
      for (Index i = 0; i < state.tape->rows(); ++i)
        seen[static_cast<std::size_t>(state.epoch - 1)].push_back(state.tape->activation(0)(i, 0));
    };
    Optimizer<T> optimizer(SGD{0.0});
    fit(problem, optimizer, options, {&callbacks});
    return seen;
  };
  const auto seen = orders(1, 0);
  std::vector<T> all(30);
  for (std::size_t i = 0; i < 30; ++i) all[i] = static_cast<T>(i);
  for (const auto& order : seen) {
    CHECK(order != all);
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == all);
  }
  CHECK(seen[0] != seen[1]);
  CHECK(seen[1] != seen[2]);
  CHECK(orders(1, 0) == seen);
  CHECK(orders(2, 0) != seen);
  CHECK(orders(1, 1)[0] == seen[1]);
}

TEST_CASE_TEMPLATE("trainer: N fits of one epoch are one fit of N", T, float, double) {
  for (const bool shuffle : {false, true}) {
    auto problem = sample<T>(23, true), twin = sample<T>(23, true);
    Optimizer<T> optimizer(Adam{}), other(Adam{});
    FitOptions options;
    options.shuffle = shuffle;
    options.seed = 9;
    options.batch_size = 5;
    options.epochs = 4;
    const History at_once = fit(problem, optimizer, options);
    options.epochs = 1;
    std::vector<double> losses;
    for (options.epochs_before = 0; options.epochs_before < 4; ++options.epochs_before)
      losses.push_back(fit(twin, other, options).loss.at(0));
    CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
    CHECK(losses == at_once.loss);
    CHECK(optimizer.steps() == other.steps());
  }
}

TEST_CASE_TEMPLATE("trainer: observers at their three points", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> start = parameters(problem.network);
  std::vector<std::string> events, expected;
  const auto note = [&](const char* what) {
    return [&events, what](FitState<T>& state) {
      events.push_back(what + std::to_string(state.epoch) + "." + std::to_string(state.step));
    };
  };
  Callbacks<T> callbacks, second;
  callbacks.whole = true;
  callbacks.on_gradient = note("gradient ");
  callbacks.on_step = note("step ");
  callbacks.on_epoch = note("epoch ");
  second.on_epoch = note("again ");
  Optimizer<T> optimizer(SGD{0.1});
  fit(problem, optimizer, in_order(2), {&callbacks, &second});
  for (int step = 1; step <= 6; ++step) {
    const std::string at = std::to_string(step > 3 ? 2 : 1) + "." + std::to_string(step);
    expected.insert(expected.end(), {"gradient " + at, "step " + at});
    if (step % 3 == 0) expected.insert(expected.end(), {"epoch " + at, "again " + at});
  }
  CHECK(events == expected);

  events.clear();
  callbacks.whole = false;
  fit(problem, optimizer, in_order(1), {&callbacks});
  CHECK(events == std::vector<std::string>{"step 1.1", "step 1.2", "step 1.3", "epoch 1.3"});
}

TEST_CASE_TEMPLATE("trainer: observers see the state of the fit", T, float, double) {
  auto problem = sample<T>();
  Optimizer<T> optimizer(SGD{0.1});
  const FitOptions options = in_order(2);
  double total = 0;
  std::vector<double> means;
  bool right = true;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) {
    right = right && &state.network == &problem.network && &state.optimizer == &optimizer && &state.options == &options;
    right = right && !state.stop && state.tape->rows() == (state.step % 3 == 0 ? 2 : 4);
    total += state.loss * static_cast<double>(state.tape->rows());
  };
  callbacks.on_epoch = [&](FitState<T>& state) {
    right = right && !state.validation_loss.has_value();
    means.push_back(state.loss);
    CHECK(state.loss == doctest::Approx(total / 10).epsilon(1e-12));
    total = 0;
  };
  const History history = fit(problem, optimizer, options, {&callbacks});
  CHECK(right);
  CHECK(means == history.loss);
}

TEST_CASE_TEMPLATE("trainer: an observer sees the gradient before the step, and may change it", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> start = parameters(problem.network);
  const Index count = start.size();
  Optimizer<T> optimizer(SGD{0.1});
  Callbacks<T> callbacks;
  callbacks.whole = true;
  callbacks.on_gradient = [&](FitState<T>& state) {
    if (state.step == 1) {
      const auto twin = sample<T>();
      Tape<T> tape(twin.network, 4);
      Vector<T> exact(count);
      const double loss = gradient<T>(twin.network, twin.loss, {twin.samples(), 4}, tape, {exact.data(), count});
      CHECK(state.loss == loss);
      CHECK(same_bits(Vector<T>(VectorView<T>(state.gradient, count)), exact));
      CHECK(same_bits(parameters(state.network), start));
    }
    VectorView<T>(state.gradient, count).setZero();
  };
  fit(problem, optimizer, in_order(), {&callbacks});
  CHECK(same_bits(parameters(problem.network), start));
  CHECK(optimizer.steps() == 3);
}

TEST_CASE_TEMPLATE("trainer: there is no gradient but at gradient_ready", T, float, double) {
  for (const bool whole : {false, true}) {
    CAPTURE(whole);
    auto problem = sample<T>();
    Optimizer<T> optimizer(SGD{0.1});
    bool at_gradient = whole, at_step = false, at_epoch = false;
    Callbacks<T> callbacks;
    callbacks.whole = whole;
    callbacks.on_gradient = [&](FitState<T>& state) { at_gradient = at_gradient && state.gradient; };
    callbacks.on_step = [&](FitState<T>& state) { at_step = at_step || state.gradient; };
    callbacks.on_epoch = [&](FitState<T>& state) { at_epoch = at_epoch || state.gradient; };
    fit(problem, optimizer, in_order(), {&callbacks});
    CHECK(at_gradient == whole);
    CHECK_FALSE(at_step);
    CHECK_FALSE(at_epoch);
  }
}

TEST_CASE_TEMPLATE("trainer: looking at the gradient changes no bit", T, float, double) {
  for (const Rule& rule : support::all_rules()) {
    CAPTURE(std::string(name(rule)));
    auto problem = sample<T>(), twin = sample<T>();
    Optimizer<T> optimizer(rule), other(rule);
    Callbacks<T> callbacks;
    callbacks.whole = true;
    fit(problem, optimizer, in_order(3), {&callbacks});
    fit(twin, other, in_order(3));
    CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
  }
}

TEST_CASE_TEMPLATE("trainer: a stop in mid-epoch", T, float, double) {
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

TEST_CASE_TEMPLATE("trainer: a stop at the end of an epoch", T, float, double) {
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

TEST_CASE_TEMPLATE("trainer: patience stops, and brings the best parameters back", T, float, double) {
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

TEST_CASE_TEMPLATE("trainer: patience without validation watches the training loss; a tie is not better", T, float,
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

TEST_CASE_TEMPLATE("trainer: the validation loss is that of evaluate, weights included", T, float, double) {
  auto problem = sample<T>();
  const auto validation = sample<T>(6, true);
  const Samples<T> samples = validation.samples();
  Optimizer<T> optimizer(Adam{});
  Callbacks<T> callbacks;
  std::vector<double> expected;
  callbacks.on_epoch = [&](FitState<T>& state) {
    expected.push_back(evaluate<T>(state.network, problem.loss, samples));
  };
  const History history = chainrule::fit<T>(problem.network, problem.loss, problem.samples(), &samples, optimizer,
                                            in_order(3), {&callbacks});
  CHECK(history.validation_loss == expected);
  CHECK(expected.size() == 3);
}

TEST_CASE_TEMPLATE("trainer: a loss that is not finite throws, with the parameters from before that step", T, float,
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

TEST_CASE_TEMPLATE("trainer: a learning rate that is far too large ends in an error, not in NaN", T, float, double) {
  auto problem = sample<T>();
  Optimizer<T> optimizer(SGD{1e30});
  CHECK_THROWS_AS(fit(problem, optimizer, in_order(50)), NonFiniteError);
}

TEST_CASE_TEMPLATE("trainer: clip_norm shortens the gradient and keeps its direction", T, float, double) {
  auto problem = sample<T>();
  const Index count = problem.network.parameter_count();
  const Vector<T> start = parameters(problem.network);
  Tape<T> tape(problem.network, 10);
  Vector<T> g(count);
  gradient<T>(problem.network, problem.loss, problem.batch(), tape, {g.data(), count});
  const double norm = g.template cast<double>().norm();
  FitOptions options = in_order();
  options.batch_size = 10;
  for (const double limit : {norm / 10, norm * 0.999, norm * 1.001, norm * 10}) {
    CAPTURE(limit / norm);
    problem.network.parameters() = start;
    Optimizer<T> optimizer(SGD{1.0});
    options.clip_norm = limit;
    fit(problem, optimizer, options);
    const Vector<T> step = start - problem.network.parameters();
    const double factor = std::min(1.0, limit / (norm + 1e-6));
    CHECK((step.template cast<double>() - factor * g.template cast<double>()).cwiseAbs().maxCoeff() <=
          4 * std::numeric_limits<T>::epsilon());
    if (limit > norm + 1e-6) {
      problem.network.parameters() = start;
      Optimizer<T> free(SGD{1.0});
      options.clip_norm.reset();
      fit(problem, free, options);
      CHECK(same_bits(step, Vector<T>(start - problem.network.parameters())));
    }
  }
}

TEST_CASE_TEMPLATE("trainer: observers see the gradient before it is clipped", T, float, double) {
  auto problem = sample<T>();
  const Index count = problem.network.parameter_count();
  Optimizer<T> optimizer(SGD{1.0});
  FitOptions options = in_order();
  options.clip_norm = 1e-3;
  Callbacks<T> callbacks;
  callbacks.whole = true;
  double smallest = 1;
  callbacks.on_gradient = [&](FitState<T>& state) {
    smallest = std::min(smallest, static_cast<double>(VectorView<T>(state.gradient, count).norm()));
  };
  fit(problem, optimizer, options, {&callbacks});
  CHECK(smallest > 2e-3);
}

TEST_CASE_TEMPLATE("trainer: the schedule sets the rate of every step, and the optimizer's own comes back", T, float,
                   double) {
  const std::vector<Schedule> schedules{ConstantRate{},    StepDecay{2, 0.5}, ExponentialDecay{0.8},
                                        CosineDecay{0.01}, OneCycle{},        Warmup{2, 0.1}};
  for (const Schedule& schedule : schedules) {
    CAPTURE(std::string(name(schedule)));
    auto problem = sample<T>();
    Optimizer<T> optimizer(SGD{0.1});
    FitOptions options = in_order(5);
    options.schedule = schedule;
    std::vector<double> rates, expected, at_epochs;
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) { rates.push_back(state.optimizer.lr()); };
    const History history = fit(problem, optimizer, options, {&callbacks});
    for (Index step = 0; step < 15; ++step) {
      expected.push_back(LearningRate(schedule, 0.1).at({step / 3, 5, step, 3}));
      if (step % 3 == 2) at_epochs.push_back(expected.back());
    }
    CHECK(rates == expected);
    CHECK(history.lr == at_epochs);
    CHECK(optimizer.lr() == 0.1);
  }
}

TEST_CASE_TEMPLATE("trainer: the plateau watches the validation loss, or else the training loss", T, float, double) {
  auto problem = sample<T>(), validation = sample<T>(6);
  // Nothing moves at lr = 0, so no epoch is better than the first. A target that the network meets gives a loss of
  // zero.
  const Samples<T> samples = validation.samples();
  FitOptions options = in_order(6);
  options.schedule = Plateau{0.5, 1, 0, 0};
  for (const bool validated : {false, true}) {
    Optimizer<T> optimizer(SGD{1e-12});
    const History history = chainrule::fit<T>(problem.network, problem.loss, problem.samples(),
                                              validated ? &samples : nullptr, optimizer, options);
    const auto& watched = validated ? history.validation_loss : history.loss;
    LearningRate expected(options.schedule, 1e-12);
    for (std::size_t epoch = 0; epoch < 6; ++epoch) {
      CHECK(history.lr[epoch] == expected.at({0, 6, 0, 3}));
      expected.epoch_done(watched[epoch]);
    }
    CHECK(optimizer.lr() == 1e-12);
  }
}

TEST_CASE_TEMPLATE("trainer: an exception of an observer comes through, and the optimizer's rate comes back", T, float,
                   double) {
  for (const int point : {0, 1, 2}) {
    CAPTURE(point);
    auto problem = sample<T>();
    Optimizer<T> optimizer(SGD{0.1});
    FitOptions options = in_order(3);
    options.schedule = OneCycle{};
    Callbacks<T> callbacks;
    callbacks.whole = true;
    (point == 0   ? callbacks.on_gradient
     : point == 1 ? callbacks.on_step
                  : callbacks.on_epoch) = [](FitState<T>&) { throw std::domain_error("enough"); };
    CHECK_THROWS_AS(fit(problem, optimizer, options, {&callbacks}), std::domain_error);
    CHECK(optimizer.steps() == (point == 0 ? 0 : point == 1 ? 1 : 3));
    CHECK(optimizer.lr() == 0.1);
  }
}

TEST_CASE_TEMPLATE("trainer: options out of range throw before anything changes", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> start = parameters(problem.network);
  const auto throws = [&](const std::function<void(FitOptions&)>& spoil) {
    Optimizer<T> optimizer(Adam{});
    FitOptions options = in_order();
    spoil(options);
    CHECK_THROWS_AS(fit(problem, optimizer, options), std::invalid_argument);
    CHECK(optimizer.steps() == 0);
  };
  for (const Index bad : {0, -1}) {
    throws([=](FitOptions& options) { options.epochs = bad; });
    throws([=](FitOptions& options) { options.batch_size = bad; });
    throws([=](FitOptions& options) { options.patience = bad; });
  }
  for (const double bad : {0.0, -1.0, std::nan("")}) throws([=](FitOptions& options) { options.clip_norm = bad; });
  throws([](FitOptions& options) { options.schedule = StepDecay{0}; });
  CHECK(same_bits(parameters(problem.network), start));
}

TEST_CASE_TEMPLATE("trainer: no samples, or another network's optimizer", T, float, double) {
  auto problem = sample<T>(), other = sample<T>();
  Optimizer<T> optimizer(Adam{});
  const Matrix<T> none(0, 4), no_targets(0, 3);
  const Samples<T> empty{{none.data(), 0, 4, Eigen::OuterStride<>(4)}, Targets<T>(no_targets)};
  CHECK_THROWS_AS(chainrule::fit<T>(problem.network, MSE{}, empty, nullptr, optimizer, in_order()),
                  std::invalid_argument);
  fit(problem, optimizer, in_order());
  const Vector<T> start = parameters(other.network);
  CHECK_THROWS_AS(fit(other, optimizer, in_order()), std::invalid_argument);
  CHECK(same_bits(parameters(other.network), start));
}

TEST_CASE_TEMPLATE("trainer: samples that do not fit throw before anything changes", T, float, double) {
  auto problem = make_problem<T>({{4, 7, 3}, 10}, {Tanh{}, Identity{}}, CrossEntropy{}, 1);
  const Vector<T> before = parameters(problem.network);
  Optimizer<T> optimizer(Adam{});
  const auto fit_with = [&](const Samples<T>& samples, const Samples<T>* validation, bool shuffle) {
    FitOptions options = in_order();
    options.shuffle = shuffle;
    chainrule::fit<T>(problem.network, problem.loss, samples, validation, optimizer, options);
  };
  const Samples<T> good = problem.samples();
  std::vector<std::int64_t> labels = problem.labels;
  labels.back() = 3;
  const std::vector<std::int64_t> longer(11);
  const Samples<T> unknown_label{good.X, Targets<T>(labels.data(), 10)}, short_y{good.X, {problem.labels.data(), 9}},
      long_y{good.X, {longer.data(), 11}};
  const Matrix<T> narrow = problem.X.leftCols(3);
  const Samples<T> narrow_X{narrow, good.y};
  for (const bool shuffle : {false, true})
    for (const Samples<T>* bad : {&unknown_label, &short_y, &long_y, &narrow_X}) {
      CHECK_THROWS_AS(fit_with(*bad, nullptr, shuffle), std::invalid_argument);
      CHECK_THROWS_AS(fit_with(good, bad, shuffle), std::invalid_argument);
    }
  CHECK(same_bits(parameters(problem.network), before));
  CHECK(optimizer.steps() == 0);
}

TEST_CASE_TEMPLATE("trainer: XOR is learned", T, float, double) {
  Network<T> network(2, {{4, Tanh{}}, {1, Sigmoid{}}});
  support::Draw draw(5);
  network.parameters() = draw.vector<T>(network.parameter_count());
  Matrix<T> X(4, 2), y(4, 1), a(4, 1);
  X << 0, 0, 0, 1, 1, 0, 1, 1;
  y << 0, 1, 1, 0;
  Adam rule;
  rule.lr = 0.05;
  Optimizer<T> optimizer(rule);
  FitOptions options = in_order(400);
  const Samples<T> samples{{X.data(), 4, 2, Eigen::OuterStride<>(2)}, Targets<T>(y)};
  const History history = chainrule::fit<T>(network, BCE{}, samples, nullptr, optimizer, options);
  CHECK(history.loss.back() < 0.05);
  predict<T>(network, X, a.data());
  CHECK((((a.array() > T(0.5)) == (y.array() > T(0.5)))).all());
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

TEST_CASE_TEMPLATE("a fit that goes on from its progress ends with the same bits", T, float, double) {
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

namespace {

/// The samples of a problem in blocks of some rows.
template <class T>
class Blocks : public Source<T> {
 public:
  Blocks(const Problem<T>& problem, std::vector<Index> sizes, bool tells_rows)
      : problem_(problem), sizes_(std::move(sizes)), tells_rows_(tells_rows) {}
  Index rows() const override { return tells_rows_ ? problem_.X.rows() : 0; }
  const Samples<T>* next() override {
    if (given_ == sizes_.size()) {
      given_ = 0;
      first_ = 0;
      return nullptr;
    }
    const Index rows = sizes_[given_++];
    Samples<T>& block = block_.emplace(problem_.samples().from(first_));
    block.X = {problem_.X.row(first_).data(), rows, problem_.X.cols(), Eigen::OuterStride<>(problem_.X.outerStride())};
    block.y.rows = rows;
    first_ += rows;
    return &block;
  }

 private:
  const Problem<T>& problem_;
  std::vector<Index> sizes_;
  bool tells_rows_;
  std::size_t given_ = 0;
  Index first_ = 0;
  std::optional<Samples<T>> block_;
};

template <class T>
History fit_blocks(Problem<T>& problem, const std::vector<Index>& sizes, const FitOptions& options,
                   bool tells_rows = false, const std::vector<Observer<T>*>& observers = {}) {
  Blocks<T> source(problem, sizes, tells_rows);
  Optimizer<T> optimizer(Adam{});
  return chainrule::fit<T>(problem.network, problem.loss, source, nullptr, optimizer, options, observers);
}

}  // namespace

TEST_CASE_TEMPLATE("trainer: blocks of whole batches are a fit of all samples", T, float, double) {
  auto blocks = sample<T>(22, true), whole = sample<T>(22, true);
  const History of_blocks = fit_blocks(blocks, {8, 4, 10}, in_order(3));
  Optimizer<T> optimizer(Adam{});
  const History expected = fit(whole, optimizer, in_order(3));
  CHECK(same_bits(parameters(blocks.network), parameters(whole.network)));
  CHECK(of_blocks.loss == expected.loss);
}

TEST_CASE_TEMPLATE("trainer: each block ends in a short batch, and its samples come once, shuffled within", T, float,
                   double) {
  auto problem = sample<T>(20);
  for (Index i = 0; i < 20; ++i) problem.X(i, 0) = static_cast<T>(i);
  FitOptions options;
  options.batch_size = 4;
  std::vector<std::vector<T>> batches;
  std::vector<bool> last_of_epoch;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) {
    auto& batch = batches.emplace_back();
    for (Index i = 0; i < state.tape->rows(); ++i) batch.push_back(state.tape->activation(0)(i, 0));
    last_of_epoch.push_back(state.last_of_epoch);
  };
  fit_blocks(problem, {7, 13}, options, true, {&callbacks});
  std::vector<std::size_t> sizes;
  std::vector<T> seen;
  for (const auto& batch : batches) {
    sizes.push_back(batch.size());
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  CHECK(sizes == std::vector<std::size_t>{4, 3, 4, 4, 4, 1});
  CHECK(last_of_epoch == std::vector<bool>{false, false, false, false, false, true});
  CHECK(!std::is_sorted(seen.begin(), seen.begin() + 7));
  std::sort(seen.begin(), seen.begin() + 7);
  std::sort(seen.begin() + 7, seen.end());
  for (std::size_t i = 0; i < 20; ++i) CHECK(seen[i] == static_cast<T>(i));
}

TEST_CASE_TEMPLATE("trainer: the last step of an epoch is that of its last batch with a weight", T, float, double) {
  auto problem = sample<T>(22, true);
  problem.weight.tail(9).setZero();
  std::vector<bool> last_of_epoch;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) { last_of_epoch.push_back(state.last_of_epoch); };
  Optimizer<T> optimizer(Adam{});
  FitOptions options = in_order(2);
  options.batch_size = 4;
  fit(problem, optimizer, options, {&callbacks});
  CHECK(last_of_epoch == std::vector<bool>{false, false, false, true, false, false, false, true});
}

TEST_CASE_TEMPLATE("trainer: an order of one's own takes the place of the shuffles", T, float, double) {
  auto problem = sample<T>(7);
  for (Index i = 0; i < 7; ++i) problem.X(i, 0) = static_cast<T>(i);
  FitOptions options;
  options.epochs = 2;
  options.batch_size = 4;
  Index drawn = 0;
  options.draw_order = [&](std::vector<Index>& order) {
    CHECK(order.size() == 7);
    for (Index i = 0; i < 7; ++i) order[static_cast<std::size_t>(i)] = (3 * i + drawn) % 7;
    ++drawn;
  };
  std::vector<T> seen;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) {
    for (Index i = 0; i < state.tape->rows(); ++i) seen.push_back(state.tape->activation(0)(i, 0));
  };
  Optimizer<T> optimizer(Adam{});
  fit(problem, optimizer, options, {&callbacks});
  CHECK(seen == std::vector<T>{0, 3, 6, 2, 5, 1, 4, 1, 4, 0, 3, 6, 2, 5});
}

TEST_CASE_TEMPLATE("trainer: batches count in an epoch's loss by their weights, or by their rows", T, float, double) {
  for (const bool by_rows : {false, true}) {
    auto problem = sample<T>(10, true);
    FitOptions options = in_order(1);
    options.batch_size = 4;
    options.batches_count_by_rows = by_rows;
    std::vector<double> losses;
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) { losses.push_back(state.loss); };
    Optimizer<T> optimizer(Adam{});
    const double loss = fit(problem, optimizer, options, {&callbacks}).loss.back();
    double total = 0, shares = 0;
    for (Index b = 0; b < 3; ++b) {
      const Index rows = std::min<Index>(4, 10 - 4 * b);
      const double share = by_rows ? static_cast<double>(rows) : Batch<T>{problem.samples().from(4 * b), rows}.weight();
      total += share * losses[static_cast<std::size_t>(b)];
      shares += share;
    }
    CHECK(loss == doctest::Approx(total / shares).epsilon(1e-12));
  }
}

TEST_CASE_TEMPLATE("trainer: no blocks", T, float, double) {
  auto problem = sample<T>();
  CHECK_THROWS_WITH_AS(fit_blocks(problem, {}, in_order()),
                       "X gave no samples with a weight in epoch 1; expected some, and the same ones in each epoch",
                       std::invalid_argument);
}

TEST_CASE_TEMPLATE("trainer: what does not go with a source of blocks changes nothing", T, float, double) {
  auto problem = sample<T>();
  const auto before = parameters(problem.network);
  for (const char* schedule : {"one_cycle", "warmup"}) {
    FitOptions options = in_order();
    options.schedule = schedule_named(schedule);
    CHECK_THROWS_WITH_AS(fit_blocks(problem, {8, 4}, options),
                         ("schedule is " + std::string(schedule) +
                          ", which needs the number of steps; a source of unknown length does not tell it")
                             .c_str(),
                         std::invalid_argument);
  }
  struct Alone : Ranks {
    Alone() : Ranks(0, 1, 0, 12) {}
    void sum(float*, Index) override {}
    void sum(double*, Index) override {}
  } ranks;
  FitOptions options = in_order();
  options.ranks = &ranks;
  CHECK_THROWS_WITH_AS(fit_blocks(problem, {8, 4}, options, true),
                       "ranks are given beside a source of blocks; expected samples, of each rank its own",
                       std::invalid_argument);
  CHECK(same_bits(parameters(problem.network), before));
}

TEST_CASE_TEMPLATE("trainer: micro-batches add up to the batch's gradient", T, float, double) {
  for (const Index micro_batch : {1, 3, 4, 9}) {
    CAPTURE(micro_batch);
    auto parts = sample<T>(22, true), whole = sample<T>(22, true);
    FitOptions options = in_order(3);
    options.batch_size = 9;
    Optimizer<T> of_parts(Adam{}), of_whole(Adam{});
    Index most_rows = 0;
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) { most_rows = std::max(most_rows, state.tape->capacity()); };
    const History expected = fit(whole, of_whole, options);
    options.micro_batch = micro_batch;
    const History history = fit(parts, of_parts, options, {&callbacks});
    CHECK(most_rows == micro_batch);
    CHECK(of_parts.steps() == of_whole.steps());
    CHECK(support::relative_error(parameters(parts.network), parameters(whole.network)) < support::tolerance<T>);
    CHECK(history.loss.back() == doctest::Approx(expected.loss.back()).epsilon(1e-5));
  }
}

TEST_CASE_TEMPLATE("trainer: an observer may end a long step or validation in its midst", T, float, double) {
  struct Impatient : Observer<T> {
    int calls = 0, last = 0;
    void meanwhile() override {
      if (++calls == last) throw std::runtime_error("enough");
    }
  };
  auto problem = sample<T>();
  FitOptions options = in_order();
  options.micro_batch = 1;
  Optimizer<T> optimizer(SGD{});
  Impatient counting;
  fit<T>(problem, optimizer, options, {&counting});
  CHECK(counting.calls == 10);
  Impatient ending;
  ending.last = 2;
  const Vector<T> before = parameters(problem.network);
  CHECK_THROWS_WITH(fit<T>(problem, optimizer, options, {&ending}), "enough");
  CHECK(same_bits(parameters(problem.network), before));
}

TEST_CASE_TEMPLATE("trainer: orders, progress and losses that cannot be", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> before = parameters(problem.network);
  Optimizer<T> optimizer(SGD{});
  FitOptions options = in_order();
  options.shuffle = true;
  for (const Index row : {Index{-1}, Index{10}, Index{1} << 60}) {
    options.draw_order = [row](std::vector<Index>& order) { std::fill(order.begin(), order.end(), row); };
    CHECK_THROWS_AS(fit<T>(problem, optimizer, options), std::invalid_argument);
    auto weighted = sample<T>(10, true);
    CHECK_THROWS_AS(fit<T>(weighted, optimizer, options), std::invalid_argument);
  }
  options.draw_order = [](std::vector<Index>& order) { order.resize(3); };
  CHECK_THROWS_AS(fit<T>(problem, optimizer, options), std::invalid_argument);
  for (const auto& spoil : std::vector<std::function<void(FitProgress<T>&)>>{
           [](FitProgress<T>& progress) { progress.history.epochs = -1; },
           [](FitProgress<T>& progress) { progress.history.epochs = 2; },
           [](FitProgress<T>& progress) { progress.step = -1; },
           [](FitProgress<T>& progress) { progress.best = {1, -1.0, Vector<T>::Ones(2)}; }}) {
    FitProgress<T> progress;
    spoil(progress);
    CHECK_THROWS_AS(chainrule::fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, in_order(),
                                      {}, progress),
                    std::invalid_argument);
  }
  for (const Loss& loss : {Loss(Quantile{{}, {}}), Loss(Quantile{{}, {1.5}}), Loss(Huber{{}, -1})}) {
    problem.loss = loss;
    CHECK_THROWS_AS(fit<T>(problem, optimizer, in_order()), std::invalid_argument);
  }
  CHECK(same_bits(parameters(problem.network), before));
}

TEST_CASE_TEMPLATE("trainer: a gradient that an observer has spoilt is not taken", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> before = parameters(problem.network);
  Optimizer<T> optimizer(SGD{});
  Callbacks<T> spoil;
  spoil.whole = true;
  spoil.on_gradient = [](FitState<T>& state) { state.gradient[0] = std::numeric_limits<T>::quiet_NaN(); };
  CHECK_THROWS_AS(fit<T>(problem, optimizer, in_order(), {&spoil}), NonFiniteError);
  CHECK(same_bits(parameters(problem.network), before));
  CHECK(optimizer.steps() == 0);
}

TEST_CASE_TEMPLATE("trainer: sums are those of a gradient that an observer has spoilt", T, float, double) {
  auto problem = sample<T>();
  Optimizer<T> optimizer(SGD{});
  FlowRecord record(1);
  FlowRecorder<T> recorder(record, problem.network);
  Callbacks<T> spoil;
  spoil.whole = true;
  spoil.on_gradient = [](FitState<T>& state) { state.gradient[0] = std::numeric_limits<T>::quiet_NaN(); };
  FitOptions options = in_order();
  options.on_non_finite = OnNonFinite::stop;
  fit<T>(problem, optimizer, options, {&recorder, &spoil});
  REQUIRE(record.flows.size() == 1);
  CHECK(record.flows[0].parameters[0].nan == 1);
}

TEST_CASE_TEMPLATE("trainer: a sample without weight says nothing, whatever its target is", T, float, double) {
  auto problem = sample<T>(10, true), twin = sample<T>(10, true);
  problem.weight[9] = twin.weight[9] = 0;
  problem.y.row(9).setConstant(std::sqrt(std::numeric_limits<T>::max()) * 2);  // whose square is infinite
  Optimizer<T> optimizer(Adam{}), other(Adam{});
  const History history = fit(problem, optimizer, in_order()), expected = fit(twin, other, in_order());
  CHECK(history.loss == expected.loss);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
  CHECK(evaluate<T>(problem.network, problem.loss, problem.samples()) ==
        evaluate<T>(twin.network, twin.loss, twin.samples()));
}
