// The check of the gradient: what it finds, and that it can find something.

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

#include "chainrule/gradient_check.hpp"
#include "support.hpp"

using namespace chainrule;
using support::make_problem;

TEST_CASE_TEMPLATE("gradient check: backprop agrees with differences", T, float, double) {
  std::uint64_t seed = 0;
  for (const Loss& loss : support::all_losses())
    for (const bool weighted : {false, true}) {
      CAPTURE(std::string(name(loss)));
      const Index outputs = 2 * outputs_per_target(loss);
      const auto problem =
          make_problem<T>({{4, 6, 5, outputs}, 7, weighted}, {Tanh{}, GELU{}, activation_named(default_output(loss))},
                          loss, ++seed, 1e-4);
      const GradientCheck check = check_gradients<T>(problem.network, loss, problem.samples());
      CHECK(check.max_relative_error <= (sizeof(T) == 4 ? 1e-5 : 1e-8));
      CHECK(check.forward_passes == 2 * problem.network.parameter_count());
      CHECK(check.backprop_seconds >= 0);
      CHECK(check.differences_seconds > 0);
      double largest = 0;
      std::vector<std::string> names;
      for (const GradientCheck::Parameter& parameter : check.parameters) {
        names.push_back(parameter.name);
        largest = std::max(largest, parameter.relative_error);
      }
      CHECK(names == std::vector<std::string>{"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
                                              "layers.2.weight", "layers.2.bias"});
      CHECK(check.max_relative_error == largest);
    }
}

TEST_CASE_TEMPLATE("gradient check: the network stays as it is", T, float, double) {
  const auto problem = make_problem<T>({{3, 4, 1}, 5}, {Sigmoid{}, Identity{}}, MSE{}, 1);
  const Vector<T> before = problem.network.parameters();
  check_gradients<T>(problem.network, problem.loss, problem.samples());
  CHECK(support::same_bits(Vector<T>(problem.network.parameters()), before));
}

TEST_CASE_TEMPLATE("gradient check: it reports a difference where there is one", T, float, double) {
  // At its kink relu'(0) = 0, and the differences give half of the slope to the right.
  Network<T> network(1, {{1, ReLU{}}});
  const Matrix<T> X = Matrix<T>::Zero(1, 1), y = Matrix<T>::Ones(1, 1);
  const Samples<T> samples{{X.data(), 1, 1, Eigen::OuterStride<>(1)}, Targets<T>(y)};
  const GradientCheck check = check_gradients<T>(network, MSE{}, samples);
  CHECK(check.parameters[0].relative_error == 0);  // X is zero
  CHECK(check.parameters[1].relative_error == 1);
  CHECK(check.max_relative_error == 1);
}

TEST_CASE_TEMPLATE("gradient check: the step has to be positive", T, float, double) {
  const auto problem = make_problem<T>({{3, 4, 1}, 5}, {Sigmoid{}, Identity{}}, MSE{}, 1);
  for (const double h : {0.0, -1e-6, std::nan("")})
    CHECK_THROWS_AS(check_gradients<T>(problem.network, problem.loss, problem.samples(), h), std::invalid_argument);
  const Matrix<T> none(0, 3), no_targets(0, 1);
  const Samples<T> empty{{none.data(), 0, 3, Eigen::OuterStride<>(3)}, Targets<T>(no_targets)};
  CHECK_THROWS_AS(check_gradients<T>(problem.network, problem.loss, empty), std::invalid_argument);
}

TEST_CASE("gradient check: a larger step finds a larger error, as its square") {
  const auto problem = make_problem<double>({{3, 4, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 2);
  const auto error = [&](double h) {
    return check_gradients<double>(problem.network, problem.loss, problem.samples(), h).max_relative_error;
  };
  CHECK(error(2e-2) / error(1e-2) == doctest::Approx(4).epsilon(0.05));
}
