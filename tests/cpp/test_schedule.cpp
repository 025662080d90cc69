// Schedules against PyTorch's recursions, their settings, and the plateau.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "chainrule/schedule.hpp"

using namespace chainrule;

namespace {

constexpr double pi = 3.14159265358979323846;

double rate(const Schedule& schedule, double lr, const Progress& at) { return LearningRate(schedule, lr).at(at); }

/// At the first step of an epoch, of 20 with 5 steps each.
Progress epoch(Index number) { return {number, 20, 5 * number, 5}; }

doctest::Approx near(double exact) { return doctest::Approx(exact).epsilon(1e-14); }

}  // namespace

TEST_CASE("schedule: names") {
  const std::vector<std::string> expected{"constant",  "step",   "exponential", "cosine",
                                          "one_cycle", "warmup", "plateau"};
  CHECK(schedule_names() == expected);
  for (const std::string& each : expected) {
    CHECK(name(schedule_named(each)) == each);
    CHECK_NOTHROW(check(schedule_named(each)));
  }
  CHECK_THROWS_AS(schedule_named("cosin"), std::invalid_argument);
  CHECK_THROWS_WITH(schedule_named("cosin"), doctest::Contains("cosine"));
}

TEST_CASE("schedule: constant") {
  for (Index e = 0; e < 20; ++e) CHECK(rate(ConstantRate{}, 0.3, epoch(e)) == 0.3);
}

TEST_CASE("schedule: step decay multiplies by gamma every so many epochs") {
  double lr = 0.5;
  for (Index e = 0; e < 20; ++e) {
    if (e > 0 && e % 3 == 0) lr *= 0.2;
    CHECK(rate(StepDecay{3, 0.2}, 0.5, epoch(e)) == near(lr));
  }
}

TEST_CASE("schedule: exponential decay multiplies by gamma every epoch") {
  double lr = 0.5;
  for (Index e = 0; e < 20; ++e, lr *= 0.9) CHECK(rate(ExponentialDecay{0.9}, 0.5, epoch(e)) == near(lr));
}

TEST_CASE("schedule: the cosine goes from lr to eta_min") {
  CHECK(rate(CosineDecay{0.01}, 0.5, epoch(0)) == near(0.5));
  CHECK(rate(CosineDecay{0.01}, 0.5, epoch(10)) == near((0.5 + 0.01) / 2));
  CHECK(rate(CosineDecay{0.01}, 0.5, epoch(20)) == near(0.01));
  for (Index e = 0; e < 20; ++e)
    CHECK(rate(CosineDecay{0.01}, 0.5, epoch(e)) ==
          near(0.01 + 0.49 * (1 + std::cos(pi * static_cast<double>(e) / 20)) / 2));
}

TEST_CASE("schedule: within an epoch only the schedules by step move") {
  const Progress first = epoch(4), last{4, 20, 24, 5};
  for (const Schedule& schedule : {Schedule(StepDecay{}), Schedule(ExponentialDecay{}), Schedule(CosineDecay{})})
    CHECK(rate(schedule, 1, first) == rate(schedule, 1, last));
  for (const Schedule& schedule : {Schedule(OneCycle{}), Schedule(Warmup{})})
    CHECK(rate(schedule, 1, first) != rate(schedule, 1, last));
}

TEST_CASE("schedule: one cycle") {
  const OneCycle cycle{0.25, 10, 100};
  const auto at = [&](Index step) { return rate(cycle, 2, {step / 5, 20, step, 5}); };
  // 100 steps: up over steps 0 … 24, down over 24 … 99.
  CHECK(at(0) == near(0.2));
  CHECK(at(12) == near((0.2 + 2) / 2));
  CHECK(at(24) == near(2));
  CHECK(at(99) == near(0.002));
  for (Index step = 0; step < 99; ++step) {
    if (step < 24)
      CHECK(at(step) < at(step + 1));
    else
      CHECK(at(step) > at(step + 1));
    const double share = step < 24 ? static_cast<double>(step) / 24 : static_cast<double>(step - 24) / 75;
    const double from = step < 24 ? 0.2 : 2, to = step < 24 ? 2 : 0.002;
    CHECK(at(step) == near(to + (from - to) / 2 * (1 + std::cos(pi * share))));
  }
}

TEST_CASE("schedule: one cycle of few steps, or with a share of 0 or 1, stays between its ends") {
  for (const double share : {0.0, 0.3, 1.0})
    for (Index steps = 1; steps < 6; ++steps)
      for (Index step = 0; step < steps; ++step) {
        const double lr = rate(OneCycle{share, 25, 1e4}, 1, {0, 1, step, steps});
        CAPTURE(share);
        CAPTURE(steps);
        CAPTURE(step);
        CHECK(lr >= 1 / (25 * 1e4) * (1 - 1e-12));
        CHECK(lr <= 1);
      }
}

TEST_CASE("schedule: warm-up is linear by steps, then constant") {
  const Warmup warmup{2, 0.2};
  for (Index step = 0; step < 100; ++step) {
    const double share = std::min(1.0, static_cast<double>(step) / 10);
    CHECK(rate(warmup, 3, {step / 5, 20, step, 5}) == near(3 * (0.2 + 0.8 * share)));
  }
}

TEST_CASE("schedule: the plateau waits for patience and counts only real improvements") {
  LearningRate lr(Plateau{0.5, 2, 0.1, 0}, 8);
  const auto after = [&](double loss) {
    lr.epoch_done(loss);
    return lr.at(epoch(0));
  };
  CHECK(lr.at(epoch(0)) == 8);
  CHECK(after(1.0) == 8);   // the best so far
  CHECK(after(0.95) == 8);  // not by a tenth: one
  CHECK(after(0.95) == 8);  // two
  CHECK(after(0.95) == 4);  // three: more than the patience
  CHECK(after(0.95) == 4);  // counted anew
  CHECK(after(0.5) == 4);   // better
  CHECK(after(0.5) == 4);
  CHECK(after(std::nan("")) == 4);
  CHECK(after(0.46) == 2);
}

TEST_CASE("schedule: the plateau stops at min_lr, and never raises the rate") {
  LearningRate lr(Plateau{0.1, 0, 0, 0.05}, 1), low(Plateau{0.1, 0, 0, 0.05}, 0.01);
  for (LearningRate* each : {&lr, &low}) each->epoch_done(1);
  double last = 1;
  for (int i = 0; i < 5; ++i) {
    for (LearningRate* each : {&lr, &low}) each->epoch_done(1);
    last = lr.at(epoch(0));
    CHECK(last >= 0.05);
    CHECK(low.at(epoch(0)) == 0.01);
  }
  CHECK(last == 0.05);
}

TEST_CASE("schedule: other schedules do not watch the loss") {
  LearningRate lr(ConstantRate{}, 1);
  for (int i = 0; i < 50; ++i) lr.epoch_done(1);
  CHECK(lr.at(epoch(0)) == 1);
}

TEST_CASE("schedule: settings out of range") {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  std::vector<Schedule> bad{StepDecay{0}, StepDecay{-1},    Warmup{0},      Warmup{-1},    Warmup{5, 1.1},
                            Plateau{1.0}, Plateau{0.1, -1}, OneCycle{-0.1}, OneCycle{1.1}, Plateau{0.0}};
  for (const double value : {0.0, -1.0, nan, infinity}) {
    bad.push_back(StepDecay{10, value});
    bad.push_back(ExponentialDecay{value});
    bad.push_back(OneCycle{0.3, value});
    bad.push_back(OneCycle{0.3, 25, value});
    bad.push_back(Warmup{5, value});
  }
  for (const double value : {-1.0, nan, infinity}) {
    bad.push_back(CosineDecay{value});
    bad.push_back(OneCycle{value});
    bad.push_back(Plateau{value});
    bad.push_back(Plateau{0.1, 10, value});
    bad.push_back(Plateau{0.1, 10, 1e-4, value});
  }
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i);
    CAPTURE(std::string(name(bad[i])));
    CHECK_THROWS_AS(check(bad[i]), std::invalid_argument);
  }
  CHECK_THROWS_WITH(check(StepDecay{0}), doctest::Contains("step_size"));
  for (const Schedule& good : {Schedule(OneCycle{0}), Schedule(OneCycle{1}), Schedule(Plateau{0.5, 0, 0, 0}),
                               Schedule(Warmup{1, 1}), Schedule(StepDecay{1, 2})})
    CHECK_NOTHROW(check(good));
}
