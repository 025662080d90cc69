// The same bits for any number of threads.

#include <doctest/doctest.h>

#include "chainrule/backprop.hpp"
#include "chainrule/init.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/threads.hpp"
#include "chainrule/trainer.hpp"
#include "support.hpp"

using namespace chainrule;
using support::hash;
using support::KeepThreads;
using support::make_problem;
using support::Problem;
using support::Shape;

namespace {

/// The hash of the parameters after `steps` steps, and the last loss.
template <class T>
std::pair<std::uint64_t, double> train(const Problem<T>& problem, const Rule& rule, int steps) {
  Network<T> network(problem.network);
  Tape<T> tape(network, problem.X.rows());
  Optimizer<T> optimizer(rule);
  double loss = 0;
  for (int t = 0; t < steps; ++t) loss = step<T>(network, problem.loss, problem.batch(), tape, optimizer);
  return {hash(network), loss};
}

template <class T>
void check_same_bits(const Shape& shape, const Loss& loss, const Rule& rule, int steps) {
  std::vector<Activation> activations(shape.units.size() - 1, SiLU{});
  activations.back() = activation_named(default_output(loss));
  const auto problem = make_problem<T>(shape, activations, loss, 1);
  set_num_threads(1);
  const auto one = train(problem, rule, steps);
  CHECK(std::isfinite(one.second));
  CHECK(one.first != hash(problem.network));
  for (const int threads : {2, 3, 8}) {
    CAPTURE(threads);
    set_num_threads(threads);
    const auto several = train(problem, rule, steps);
    CHECK(several.first == one.first);
    CHECK(several.second == one.second);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("reproducibility: 100 steps of each optimizer and loss, for 1, 2, 3 and 8 threads", T, float,
                   double) {
  const KeepThreads keep;
  const Rule rules[] = {SGD{0.01, 0.9}, RMSprop{0.001}, Adam{}, AdamW{}};
  for (const Rule& rule : rules)
    for (const std::string& name_of_loss : loss_names()) {
      const Loss loss = loss_named(name_of_loss);
      CAPTURE(std::string(name(rule)));
      CAPTURE(name_of_loss);
      // 2 · 1.8e4 parameters · 61 rows are work for five threads.
      check_same_bits<T>({{37, 129, 97, 3}, 61, true}, loss, rule, 100);
    }
}

TEST_CASE_TEMPLATE("reproducibility: ragged shapes, for 1, 2, 3 and 8 threads", T, float, double) {
  const KeepThreads keep;
  const Shape shapes[] = {
      {{1, 513, 2}, 1000},      {{257, 1, 255}, 333}, {{100, 33, 333, 10}, 127},   {{700, 801, 5}, 40, true},
      {{300, 300, 300, 7}, 13}, {{1200, 500, 2}, 9},  {{64, 64, 64, 64, 64}, 256},
  };
  for (const Shape& shape : shapes)
    for (const Loss& loss : {Loss(MSE{}), Loss(CrossEntropy{})}) {
      CAPTURE(shape.units[1]);
      CAPTURE(shape.rows);
      check_same_bits<T>(shape, loss, Adam{}, 3);
    }
}

TEST_CASE_TEMPLATE("reproducibility: forward, pullback, predict and evaluate", T, float, double) {
  const KeepThreads keep;
  for (const Shape& shape : {Shape{{70, 130, 150, 9}, 170, true}, Shape{{700, 801, 5}, 90, true}}) {
    auto problem = make_problem<T>(shape, std::vector<Activation>(shape.units.size() - 1, Tanh{}), Huber{}, 2);
    const Index n = shape.rows, outputs = shape.units.back(), count = problem.network.parameter_count();
    const Matrix<T> grad_output = support::Draw(3).matrix<T>(n, outputs);
    struct Results {
      Matrix<T> a, predicted, dX;
      Vector<T> gradient;
      double loss;
    };
    const auto compute = [&](int threads) {
      set_num_threads(threads);
      Results results{{}, Matrix<T>(n, outputs), {}, Vector<T>(count), 0};
      Tape<T> tape(problem.network, n);
      forward<T>(problem.network, problem.X, tape);
      results.a = tape.activation(problem.network.depth());
      results.dX = pullback<T>(problem.network, grad_output, tape, {results.gradient.data(), count});
      predict<T>(problem.network, problem.X, results.predicted.data());
      results.loss = evaluate<T>(problem.network, problem.loss, problem.samples());
      return results;
    };
    const Results one = compute(1);
    for (const int threads : {2, 3, 8}) {
      CAPTURE(threads);
      const Results several = compute(threads);
      CHECK(support::same_bits(several.a, one.a));
      CHECK(support::same_bits(several.predicted, one.predicted));
      CHECK(support::same_bits(several.dX, one.dX));
      CHECK(support::same_bits(several.gradient, one.gradient));
      CHECK(several.loss == one.loss);
    }
  }
}

TEST_CASE_TEMPLATE("reproducibility: a fit with clipping, shuffling, validation and patience", T, float, double) {
  const KeepThreads keep;
  const auto problem = make_problem<T>({{60, 128, 100, 4}, 150, true}, {ReLU{}, GELU{}, Softmax{}}, CrossEntropy{}, 4);
  const auto compute = [&](int threads) {
    set_num_threads(threads);
    Network<T> network(problem.network);
    Optimizer<T> optimizer(Adam{});
    FitOptions options;
    options.epochs = 4;
    options.batch_size = 64;
    options.patience = 2;
    options.clip_norm = 0.1;
    const Samples<T> samples = problem.samples();
    const History history = fit<T>(network, problem.loss, samples, &samples, optimizer, options);
    return std::pair{hash(network), history.validation_loss};
  };
  const auto one = compute(1);
  CHECK(one.first != hash(problem.network));
  for (const int threads : {2, 3, 8}) CHECK(compute(threads) == one);
}
