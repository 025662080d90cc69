// What the observers of a fit are told, may change and may end.

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include "chainrule/gradient_flow.hpp"
#include "training.hpp"

using namespace chainrule;
using support::same_bits;
using namespace training;

TEST_CASE_TEMPLATE("observers: called at their three points", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: they see the state of the fit", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: an observer sees the gradient before the step, and may change it", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: there is no gradient but at gradient_ready", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: looking at the gradient changes no bit", T, float, double) {
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

TEST_CASE("observers: a rate that is none is refused, and the optimizer's comes back") {
  auto problem = sample<double>();
  Optimizer<double> optimizer(SGD{0.5});
  Callbacks<double> callbacks;
  callbacks.on_epoch = [](FitState<double>& state) { state.lr = -1; };
  CHECK_THROWS_AS(fit(problem, optimizer, in_order(2), {&callbacks}), std::invalid_argument);
  CHECK(optimizer.lr() == 0.5);
}

TEST_CASE_TEMPLATE("observers: they see the gradient before it is clipped", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: an exception of an observer comes through, and the optimizer's rate comes back", T,
                   float, double) {
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

TEST_CASE_TEMPLATE("observers: an observer may end a long step or validation in its midst", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: a gradient that an observer has spoilt is not taken", T, float, double) {
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

TEST_CASE_TEMPLATE("observers: sums are those of a gradient that an observer has spoilt", T, float, double) {
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
