// Names, parameters, and what each activation does where it is delicate; the kernels' tests have the rest.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "chainrule/activation.hpp"
#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "support.hpp"

using namespace chainrule;

namespace {

/// A network of one unit, so that a_1 = σ(z) for X = z.
template <class T>
Network<T> unit(const Activation& activation) {
  Network<T> network(1, {{1, activation}});
  network.weight(1)(0, 0) = 1;
  return network;
}

template <class T>
T value(const Activation& activation, T z) {
  const Matrix<T> X = Matrix<T>::Constant(1, 1, z);
  T a;
  predict<T>(unit<T>(activation), X, &a);
  return a;
}

template <class T>
T derivative(const Activation& activation, T z) {
  const Network<T> network = unit<T>(activation);
  const Matrix<T> X = Matrix<T>::Constant(1, 1, z);
  Tape<T> tape(network, 1);
  forward<T>(network, X, tape);
  Vector<T> gradient(2);
  return pullback<T>(network, Matrix<T>::Constant(1, 1, 1), tape, {gradient.data(), 2})(0, 0);
}

}  // namespace

TEST_CASE("activation: names") {
  const std::vector<std::string> expected{"identity", "sigmoid", "tanh", "relu",     "leaky_relu", "elu",
                                          "selu",     "gelu",    "silu", "softplus", "exp",        "softmax"};
  CHECK(activation_names() == expected);
  for (const std::string& each : expected) CHECK(name(activation_named(each)) == each);
  CHECK_THROWS_AS(activation_named("rellu"), std::invalid_argument);
  CHECK_THROWS_AS(activation_named(""), std::invalid_argument);
  CHECK_THROWS_AS(activation_named("ReLU"), std::invalid_argument);
  CHECK_THROWS_WITH(activation_named("rellu"), doctest::Contains("'rellu'"));
  CHECK_THROWS_WITH(activation_named("rellu"), doctest::Contains("softplus"));
}

TEST_CASE("activation: parameters") {
  CHECK(parameter(activation_named("leaky_relu")) == 0.01);
  CHECK(parameter(activation_named("elu")) == 1);
  CHECK(parameter(activation_named("leaky_relu", 0.2)) == 0.2);
  CHECK(parameter(activation_named("leaky_relu", 0)) == 0);
  CHECK(parameter(activation_named("elu", 2.5)) == 2.5);
  CHECK(std::string(parameter_name(LeakyReLU{})) == "negative_slope");
  CHECK(std::string(parameter_name(ELU{})) == "alpha");
  CHECK(parameter_name(Tanh{}) == nullptr);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, infinity, -infinity, std::nan("")}) {
    CHECK_THROWS_AS(activation_named("leaky_relu", bad), std::invalid_argument);
    CHECK_THROWS_AS(activation_named("elu", bad), std::invalid_argument);
  }
  CHECK_THROWS_AS(activation_named("elu", 0), std::invalid_argument);
  CHECK_THROWS_AS(activation_named("tanh", 1), std::invalid_argument);
  CHECK_THROWS_AS(activation_named("no such", 1), std::invalid_argument);
}

TEST_CASE("activation: equality is of kind and parameter") {
  CHECK(Activation(Tanh{}) == Activation(Tanh{}));
  CHECK_FALSE(Activation(Tanh{}) == Activation(Sigmoid{}));
  CHECK(activation_named("leaky_relu", 0.2) == activation_named("leaky_relu", 0.2));
  CHECK_FALSE(activation_named("leaky_relu", 0.2) == activation_named("leaky_relu"));
}

TEST_CASE("activation: kinds") {
  for (const Activation& each : support::all_activations()) {
    const std::string text = name(each);
    CAPTURE(text);
    CHECK(output_only(each) == (text == "exp" || text == "softmax"));
    CHECK(needs_z(each) == (text == "gelu" || text == "silu"));
    CHECK(rectifier(each) == (text == "relu" || text == "leaky_relu" || text == "elu" || text == "selu" ||
                              text == "gelu" || text == "silu" || text == "softplus"));
  }
}

TEST_CASE_TEMPLATE("activation: known values", T, float, double) {
  CHECK(value<T>(Identity{}, T(1.25)) == T(1.25));
  CHECK(value<T>(Sigmoid{}, 0) == T(0.5));
  CHECK(value<T>(Tanh{}, 0) == 0);
  CHECK(value<T>(ReLU{}, T(-2)) == 0);
  CHECK(value<T>(ReLU{}, T(2)) == 2);
  CHECK(value<T>(activation_named("leaky_relu", 0.25), T(-2)) == T(-0.5));
  CHECK(value<T>(Softmax{}, T(3)) == 1);
  const auto near = [](T ours, double exact) {
    return std::abs(static_cast<double>(ours) - exact) <= 4 * std::numeric_limits<T>::epsilon() * std::abs(exact);
  };
  CHECK(near(value<T>(Sigmoid{}, 1), 0.7310585786300048793));
  CHECK(near(value<T>(Tanh{}, 1), 0.7615941559557648881));
  CHECK(near(value<T>(activation_named("elu", 2.0), -1), -1.264241117657115356));
  CHECK(near(value<T>(SELU{}, -1), -1.111330737812562684));
  CHECK(near(value<T>(SELU{}, 1), 1.050700987355480493));
  CHECK(near(value<T>(GELU{}, 1), 0.8413447460685429486));
  CHECK(near(value<T>(SiLU{}, 1), 0.7310585786300048793));
  CHECK(near(value<T>(Softplus{}, 0), 0.6931471805599453094));
  CHECK(near(value<T>(Exp{}, 1), 2.718281828459045235));
}

TEST_CASE_TEMPLATE("activation: far out", T, float, double) {
  const T infinity = std::numeric_limits<T>::infinity();
  for (const T z : {T(1000), infinity}) {
    CAPTURE(z);
    CHECK(value<T>(Sigmoid{}, z) == 1);
    CHECK(value<T>(Sigmoid{}, -z) == 0);
    CHECK(value<T>(Tanh{}, z) == 1);
    CHECK(value<T>(Tanh{}, -z) == -1);
    CHECK(value<T>(ReLU{}, z) == z);
    CHECK(value<T>(ReLU{}, -z) == 0);
    CHECK(value<T>(activation_named("elu", 1.5), -z) == T(-1.5));
    CHECK(value<T>(GELU{}, z) == z);
    CHECK(value<T>(SiLU{}, z) == z);
    CHECK(value<T>(Softplus{}, z) == z);
    CHECK(value<T>(Softplus{}, -z) == 0);
    CHECK(value<T>(Exp{}, z) == infinity);
    CHECK(value<T>(Exp{}, -z) == 0);
  }
  CHECK(value<T>(GELU{}, T(-1000)) == 0);
  CHECK(value<T>(SiLU{}, T(-1000)) == 0);
  for (const Activation& each : support::all_activations()) {
    CAPTURE(std::string(name(each)));
    CHECK(std::isfinite(derivative<T>(each, T(-1000))));
    if (!std::holds_alternative<Exp>(each)) CHECK(std::isfinite(derivative<T>(each, T(1000))));
  }
}

TEST_CASE_TEMPLATE("activation: NaN stays NaN", T, float, double) {
  for (const Activation& each : support::all_activations()) {
    CAPTURE(std::string(name(each)));
    CHECK(std::isnan(value<T>(each, std::numeric_limits<T>::quiet_NaN())));
  }
}

TEST_CASE_TEMPLATE("activation: at a kink the derivative is the one from the left, as PyTorch's", T, float, double) {
  CHECK(derivative<T>(ReLU{}, 0) == 0);
  CHECK(derivative<T>(activation_named("leaky_relu", 0.25), 0) == T(0.25));
  CHECK(derivative<T>(activation_named("elu", 1.5), 0) == T(1.5));
  CHECK(derivative<T>(SELU{}, 0) == static_cast<T>(SELU::lambda_alpha));
  CHECK(derivative<T>(GELU{}, 0) == T(0.5));
  CHECK(derivative<T>(SiLU{}, 0) == T(0.5));
  CHECK(derivative<T>(Identity{}, 0) == 1);
}

TEST_CASE_TEMPLATE("activation: softmax does not change when a number is added to its logits", T, float, double) {
  Network<T> network(1, {{3, Softmax{}}});
  network.weight(1).setConstant(1);
  network.bias(1) << 0, 1, 2;
  Matrix<T> X(4, 1), a(4, 3);
  X << 0, 64, 1024, -1024;
  predict<T>(network, X, a.data());
  for (Index i = 0; i < 4; ++i) {
    CHECK(support::same_bits(Matrix<T>(a.row(i)), Matrix<T>(a.row(0))));
    CHECK(std::abs(static_cast<double>(a.row(i).sum()) - 1) <= 2 * std::numeric_limits<T>::epsilon());
  }
}
