// The choice between one thread and several for small steps, with durations made up.

#include <doctest/doctest.h>

#include "chainrule/step_threads.hpp"

using chainrule::StepThreads;

namespace {

/// How many of so many steps are taken on several threads, if they take that long.
int steps_on_several(StepThreads& threads, int steps, double on_one, double on_several) {
  int count = 0;
  for (int i = 0; i < steps; ++i) {
    const bool several = threads.several();
    count += several ? 1 : 0;
    threads.took(several ? on_several : on_one);
  }
  return count;
}

}  // namespace

TEST_CASE("step threads: several to begin with, and one is tried now and then") {
  StepThreads threads;
  CHECK(steps_on_several(threads, 50, 1, 0.6) == 50);
  const int steps = 20000, tried = steps - steps_on_several(threads, steps, 1, 0.6);
  CHECK(tried > 0);
  CHECK(tried <= steps / 256);
}

TEST_CASE("step threads: what is faster is found, and again when that changes") {
  StepThreads threads;
  steps_on_several(threads, 200, 1, 2);
  CHECK(steps_on_several(threads, 1000, 1, 2) <= 50);
  steps_on_several(threads, 5000, 1, 0.6);
  CHECK(steps_on_several(threads, 1000, 1, 0.6) >= 950);
  steps_on_several(threads, 5000, 1, 2);
  CHECK(steps_on_several(threads, 1000, 1, 2) <= 50);
}

TEST_CASE("step threads: a few per cent and a single slow step change nothing") {
  StepThreads threads;
  CHECK(steps_on_several(threads, 5000, 0.97, 1) > 4900);
  int on_one = 0;
  for (int i = 0; i < 5000; ++i) {
    const bool several = threads.several();
    on_one += several ? 0 : 1;
    threads.took(i % 7 == 0 ? 9 : several ? 0.6 : 1);
  }
  CHECK(on_one < 100);
}
