// The penalty of the weights, and how much the loss counts beside it.

#include <doctest/doctest.h>

#include <stdexcept>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/trainer.hpp"
#include "support.hpp"

using namespace chainrule;
using support::make_problem;

TEST_CASE_TEMPLATE("objective: the gradient gets l2/n W, and nothing at the biases", T, float, double) {
  auto problem = make_problem<T>({{6, 40, 3}, 11, true}, {Tanh{}, Identity{}}, MSE{}, 1);
  const Network<T>& network = problem.network;
  const Objective objective{3.0, 0.7};
  Tape<T> tape(network, 11);
  Vector<T> plain(network.parameter_count()), penalised = plain;
  const auto view = [](Vector<T>& v) { return VectorView<T>(v.data(), v.size()); };
  const double loss = gradient<T>(network, problem.loss, problem.batch(), tape, view(plain));
  CHECK(gradient<T>(network, problem.loss, problem.batch(), tape, view(penalised), objective) == loss);
  Vector<T> expected = 3 * plain;
  const double n = problem.batch().weight();
  double squares = 0;
  for (Index l = 1; l <= 2; ++l) {
    const auto W = network.weight(l);
    squares += W.template cast<double>().squaredNorm();
    expected.segment(network.offset(l), W.size()) +=
        static_cast<T>(0.7 / n) * Eigen::Map<const Vector<T>>(W.data(), W.size());
  }
  CHECK((penalised - expected).norm() <= 1e2 * std::numeric_limits<T>::epsilon() * expected.norm());
  CHECK(penalty<T>(network, objective) == doctest::Approx(0.35 * squares));
  CHECK(penalty<T>(network, {}) == 0);
}

TEST_CASE_TEMPLATE("objective: a step updates by that gradient, whatever the rule", T, float, double) {
  for (const std::string& name : rule_names())
    for (const auto& units : {std::vector<Index>{4, 3, 2}, std::vector<Index>{30, 90, 33}}) {
      CAPTURE(name);
      auto fused = make_problem<T>({units, 20, true}, {SiLU{}, Identity{}}, MSE{}, 2);
      auto apart = fused;
      const Objective objective{2.0, 0.5};
      Optimizer<T> fused_optimizer(rule_named(name)), apart_optimizer(rule_named(name));
      Tape<T> tape(fused.network, 20);
      Vector<T> whole(fused.network.parameter_count());
      for (int i = 0; i < 3; ++i) {
        step<T>(fused.network, fused.loss, fused.batch(), tape, fused_optimizer, objective);
        gradient<T>(apart.network, apart.loss, apart.batch(), tape, VectorView<T>(whole.data(), whole.size()),
                    objective);
        apart_optimizer.step(apart.network, ConstVectorView<T>(whole.data(), whole.size()));
      }
      CHECK((fused.network.parameters() - apart.network.parameters()).norm() <=
            1e3 * std::numeric_limits<T>::epsilon() * apart.network.parameters().norm());
    }
}

TEST_CASE_TEMPLATE("objective: a penalty whose gradient is beyond the range of numbers is not taken", T, float,
                   double) {
  for (const double l2 : {1e40, 1e300, 1e307}) {
    CAPTURE(l2);
    auto problem = make_problem<T>({{4, 5, 1}, 10}, {Tanh{}, Identity{}}, MSE{}, 3);
    problem.network.parameters() *= std::sqrt(std::numeric_limits<T>::max() / T(1e4));
    if (l2 == 1e40) problem.network.parameters().setZero();
    const Vector<T> before = problem.network.parameters();
    Tape<T> tape(problem.network, 10);
    Optimizer<T> optimizer(chainrule::SGD{});
    const double loss = step<T>(problem.network, problem.loss, problem.batch(), tape, optimizer, {1, l2});
    CHECK(problem.network.parameters().allFinite());
    if (!std::isfinite(loss)) CHECK(support::same_bits(Vector<T>(problem.network.parameters()), before));
  }
}

TEST_CASE("objective: a fit tells loss and penalty apart") {
  auto problem = make_problem<double>({{4, 5, 1}, 10}, {Tanh{}, Identity{}}, MSE{}, 3);
  chainrule::SGD rule;
  rule.lr = 0;
  Optimizer<double> optimizer(rule);
  FitOptions options;
  options.batch_size = 4;
  options.objective.l2 = 0.6;
  const double expected = penalty<double>(problem.network, options.objective);
  const auto history = fit<double>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options);
  CHECK(history.loss[0] == doctest::Approx(evaluate<double>(problem.network, problem.loss, problem.samples())));
  CHECK(history.penalty[0] == doctest::Approx(3 * expected / 10));  // three batches
  options.objective.l2 = -1;
  CHECK_THROWS_AS(fit<double>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options),
                  std::invalid_argument);
  options.objective = {0, 0};
  CHECK_THROWS_AS(fit<double>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options),
                  std::invalid_argument);
}

TEST_CASE("objective: an observer may set the rate that the schedule starts from") {
  struct Halve : Observer<double> {
    void epoch_done(FitState<double>& state) override { state.lr /= 2; }
  } halve;
  auto problem = make_problem<double>({{4, 5, 1}, 10}, {Tanh{}, Identity{}}, MSE{}, 3);
  Optimizer<double> optimizer(chainrule::SGD{.lr = 0.5});
  FitOptions options;
  options.epochs = 3;
  const auto history =
      fit<double>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, {&halve});
  CHECK(history.lr == std::vector<double>{0.5, 0.25, 0.125});
  CHECK(optimizer.lr() == 0.0625);
}
