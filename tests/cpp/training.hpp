#pragma once

// What the tests of the training loop share.

#include <algorithm>
#include <functional>
#include <vector>

#include "chainrule/trainer.hpp"
#include "support.hpp"

namespace training {

using namespace chainrule;
using support::make_problem;
using support::Problem;

template <class T>
Problem<T> sample(Index rows = 10, bool weighted = false) {
  return make_problem<T>({{4, 7, 3}, rows, weighted}, {Tanh{}, Identity{}}, MSE{}, 1);
}

/// In order, by batches of 4.
inline FitOptions in_order(Index epochs = 1) {
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

}  // namespace training
