// Jacobians, per-sample gradients and Hessian products, against differences and against each other.

#include <doctest/doctest.h>

#include "chainrule/derivatives.hpp"
#include "support.hpp"

using namespace chainrule;
using support::make_problem;
using support::relative_error;

namespace {

template <class T>
Matrix<T> jacobian_of(const Network<T>& network, const Matrix<T>& X, Index capacity) {
  Tape<T> tape(network, capacity);
  Matrix<T> J(X.rows() * network.outputs(), network.inputs());
  jacobian<T>(network, X, tape, J.data());
  return J;
}

}  // namespace

TEST_CASE_TEMPLATE("jacobian: differences, from either end", T, float, double) {
  for (const auto& units : {std::vector<Index>{5, 9, 7, 2}, std::vector<Index>{2, 9, 7, 5}}) {
    auto problem = make_problem<T>({units, 13}, {Tanh{}, SiLU{}, Softmax{}}, MSE{}, 1);
    const Index inputs = units.front(), outputs = units.back();
    const Matrix<T> J = jacobian_of(problem.network, problem.X, 4);
    Network<double> twin(inputs, problem.network.layers());
    twin.parameters() = problem.network.parameters().template cast<double>();
    Matrix<double> differences(J.rows(), J.cols());
    const double h = 1e-6;
    for (Index j = 0; j < inputs; ++j) {
      Matrix<double> above = problem.X.template cast<double>(), below = above, a(13, outputs), b(13, outputs);
      above.col(j).array() += h;
      below.col(j).array() -= h;
      predict<double>(twin, above, a.data());
      predict<double>(twin, below, b.data());
      differences.col(j) = (a - b).reshaped<Eigen::RowMajor>() / (2 * h);
    }
    CHECK(relative_error(J, differences) < (sizeof(T) == 4 ? 1e-5 : 1e-8));

    Tape<T> tape(problem.network, 13);
    Matrix<T> of_output(13, inputs), tangents(13, outputs);
    input_gradient<T>(problem.network, problem.X, outputs - 1, tape, of_output.data());
    jvp<T>(problem.network, problem.X, problem.X, tape, tangents.data());
    for (Index i = 0; i < 13; ++i) {
      const Matrix<T> J_i = J.middleRows(i * outputs, outputs);
      CHECK(relative_error(of_output.row(i), J_i.row(outputs - 1)) < support::tolerance<T>);
      CHECK(relative_error(tangents.row(i), problem.X.row(i) * J_i.transpose()) < support::tolerance<T>);
    }
  }
}

TEST_CASE_TEMPLATE("per-sample gradients: their mean is the gradient, their norms need no gradients", T, float,
                   double) {
  auto problem = make_problem<T>({{5, 9, 7, 2}, 12}, {GELU{}, ReLU{}, Identity{}}, CrossEntropy{}, 2);
  const Network<T>& network = problem.network;
  const Index count = network.parameter_count();
  Tape<T> tape(network, 5);
  Matrix<T> gradients(12, count);
  Vector<T> norms(12), whole(count);
  per_sample_gradients<T>(network, problem.loss, problem.samples(), tape, gradients.data());
  per_sample_gradient_norms<T>(network, problem.loss, problem.samples(), tape, norms.data());
  Tape<T> full(network, 12);
  gradient<T>(network, problem.loss, problem.batch(), full, {whole.data(), count});
  CHECK(relative_error(Vector<T>(gradients.colwise().mean()), whole) < support::tolerance<T>);
  CHECK(relative_error(norms, Vector<T>(gradients.rowwise().norm())) < support::tolerance<T>);
}

TEST_CASE("hvp: differences of gradients, for every activation and loss") {
  support::Draw draw(7);
  for (const Loss& loss : support::all_losses())
    for (const Activation& hidden : support::hidden_activations()) {
      CAPTURE(name(loss));
      CAPTURE(name(hidden));
      const Index outputs = 2 * outputs_per_target(loss);
      auto problem = make_problem<double>({{4, 7, 6, outputs}, 10, true}, {hidden, hidden, Identity{}}, loss, 3, 1e-3);
      Network<double>& network = problem.network;
      const Index count = network.parameter_count();
      const Vector<double> v = draw.vector<double>(count), theta = network.parameters();
      Tape<double> tape(network, 4), R(network, 4, {.pre_activations = true}), full(network, 10);
      Vector<double> product(count), above(count), below(count);
      hvp<double>(network, loss, problem.samples(), {v.data(), count}, tape, R, {product.data(), count});
      const double h = 1e-5;
      network.parameters() = theta + h * v;
      gradient<double>(network, loss, problem.batch(), full, {above.data(), count});
      network.parameters() = theta - h * v;
      gradient<double>(network, loss, problem.batch(), full, {below.data(), count});
      CHECK(relative_error(product, Vector<double>((above - below) / (2 * h))) < 1e-7);
    }
}

TEST_CASE_TEMPLATE("derivatives: of many rows and of large networks, however many a tape holds", T, float, double) {
  for (const auto& [units, n] : {std::pair{std::vector<Index>{20, 130, 90, 6}, Index{400}},
                                 std::pair{std::vector<Index>{6, 130, 90, 20}, Index{150}},
                                 std::pair{std::vector<Index>{400, 1000, 201, 3}, Index{40}}}) {
    CAPTURE(n);
    auto problem = make_problem<T>({units, n, true}, {GELU{}, ReLU{}, Softmax{}}, MSE{}, 6);
    const Network<T>& network = problem.network;
    const Index inputs = units.front(), outputs = units.back(), count = network.parameter_count();
    support::Draw draw(9);
    const Vector<T> v = draw.vector<T>(count);
    const auto of_capacity = [&](Index capacity) {
      Tape<T> tape(network, capacity), R(network, capacity, {.pre_activations = true});
      Matrix<T> rows(n, inputs + outputs), of_output(n, inputs), tangents(n, outputs);
      input_gradient<T>(network, problem.X, 1, tape, of_output.data());
      jvp<T>(network, problem.X, problem.X, tape, tangents.data());
      rows << of_output, tangents;
      Vector<T> product(count);
      hvp<T>(network, problem.loss, problem.samples(), {v.data(), count}, tape, R, {product.data(), count});
      return std::tuple(jacobian_of(network, problem.X, capacity), rows, product);
    };
    const auto [J, rows, product] = of_capacity(n);
    const auto [J_of_few, rows_of_few, product_of_few] = of_capacity(3);
    CHECK(support::same_bits(J, J_of_few));
    CHECK(support::same_bits(rows, rows_of_few));
    CHECK(relative_error(product, product_of_few) < support::tolerance<T>);
  }
}

TEST_CASE("derivatives: what does not fit is refused") {
  auto problem = make_problem<double>({{4, 3, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 4);
  const Network<double>& network = problem.network;
  const Index count = network.parameter_count();
  Tape<double> tape(network, 5), no_pre_activations(network, 5), R(network, 5, {.pre_activations = true});
  Vector<double> v = Vector<double>::Ones(count), to(count);
  Matrix<double> of_output(5, 4);
  CHECK_THROWS_AS(input_gradient<double>(network, problem.X, 2, tape, of_output.data()), std::invalid_argument);
  CHECK_THROWS_AS(
      hvp<double>(network, problem.loss, problem.samples(), {v.data(), count - 1}, tape, R, {to.data(), count}),
      std::invalid_argument);
  const Matrix<double> nothing(0, network.inputs());
  const Samples<double> no_rows{nothing, problem.targets()};
  CHECK_THROWS_AS(hvp<double>(network, problem.loss, no_rows, {v.data(), count}, tape, R, {to.data(), count}),
                  std::invalid_argument);
  CHECK_THROWS_AS(hvp<double>(network, problem.loss, problem.samples(), {v.data(), count}, tape, no_pre_activations,
                              {to.data(), count}),
                  std::invalid_argument);
}
