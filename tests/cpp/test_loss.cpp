// Names, parameters, values known by hand, and what each loss does where it is delicate; the kernels' tests have the
// rest.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "chainrule/backprop.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/predict.hpp"
#include "support.hpp"

using namespace chainrule;

namespace {

/// The loss of outputs (or logits) x, row by row, and dL/dx: the network hands its inputs on.
template <class T>
struct Result {
  double loss;
  Matrix<T> gradient;
};

template <class T>
Result<T> result(const Loss& loss, const Matrix<T>& x, const Targets<T>& y, const Vector<T>& weight = {}) {
  Network<T> network(x.cols(), {{x.cols(), Identity{}}});
  network.weight(1).setIdentity();
  const T* weights = weight.size() > 0 ? weight.data() : nullptr;
  Tape<T> tape(network, x.rows());
  forward<T>(network, x, tape);
  Vector<T> gradient(network.parameter_count());
  const double value = backward<T>(network, loss, y, weights, tape, {gradient.data(), gradient.size()});
  CHECK(evaluate<T>(network, loss, {{x.data(), x.rows(), x.cols(), Eigen::OuterStride<>(x.cols())}, y, weights}) ==
        value);
  return {value, Matrix<T>(tape.delta(1))};
}

template <class T>
Result<T> result(const Loss& loss, const Matrix<T>& x, const Matrix<T>& y, const Vector<T>& weight = {}) {
  return result<T>(loss, x, Targets<T>(y), weight);
}

template <class T>
Matrix<T> matrix(std::initializer_list<std::initializer_list<double>> rows) {
  Matrix<T> m(static_cast<Index>(rows.size()), static_cast<Index>(rows.begin()->size()));
  Index i = 0;
  for (const auto& row : rows) {
    Index j = 0;
    for (const double x : row) m(i, j++) = static_cast<T>(x);
    ++i;
  }
  return m;
}

template <class T>
bool near(double ours, double exact) {
  return std::abs(ours - exact) <= 4 * std::numeric_limits<T>::epsilon() * std::max(std::abs(exact), 1e-300);
}

}  // namespace

TEST_CASE("loss: names") {
  const std::vector<std::string> expected{"mse", "mae", "huber", "bce", "cross_entropy", "poisson", "quantile"};
  CHECK(loss_names() == expected);
  for (const std::string& each : expected) CHECK(name(loss_named(each)) == each);
  CHECK_THROWS_AS(loss_named("mse "), std::invalid_argument);
  CHECK_THROWS_WITH(loss_named("l2"), doctest::Contains("'l2'"));
  CHECK_THROWS_WITH(loss_named("l2"), doctest::Contains("cross_entropy"));
}

TEST_CASE("loss: parameters") {
  CHECK(parameters(loss_named("huber")) == std::vector<double>{1.0});
  CHECK(parameters(loss_named("huber", {2.5})) == std::vector<double>{2.5});
  CHECK(parameters(loss_named("quantile")) == std::vector<double>{0.5});
  CHECK(parameters(loss_named("quantile", {0.1, 0.9})) == std::vector<double>{0.1, 0.9});
  CHECK(parameters(loss_named("mse")).empty());
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (const double bad : {0.0, -1.0, infinity, nan})
    CHECK_THROWS_AS(loss_named("huber", {bad}), std::invalid_argument);
  CHECK_THROWS_AS(loss_named("huber", {1, 2}), std::invalid_argument);
  for (const double bad : {0.0, 1.0, -0.5, 2.0, nan}) {
    CHECK_THROWS_AS(loss_named("quantile", {bad}), std::invalid_argument);
    CHECK_THROWS_AS(loss_named("quantile", {0.5, bad}), std::invalid_argument);
  }
  for (const char* without : {"mse", "mae", "bce", "cross_entropy", "poisson"})
    CHECK_THROWS_AS(loss_named(without, {1}), std::invalid_argument);
  CHECK_THROWS_AS(loss_named("no such", {1}), std::invalid_argument);
}

TEST_CASE("loss: kinds") {
  for (const Loss& loss : support::all_losses()) {
    const std::string text = name(loss);
    CAPTURE(text);
    CHECK(from_logits(loss) == (text == "bce" || text == "cross_entropy" || text == "poisson"));
    CHECK(sum_over_outputs(loss) == (text == "cross_entropy"));
    const std::string output = text == "bce"             ? "sigmoid"
                               : text == "cross_entropy" ? "softmax"
                               : text == "poisson"       ? "exp"
                                                         : "identity";
    CHECK(default_output(loss) == output);
  }
  CHECK(outputs_per_target(loss_named("quantile", {0.1, 0.5, 0.9})) == 3);
  CHECK(outputs_per_target(Quantile{}) == 1);
  CHECK(outputs_per_target(MSE{}) == 1);
}

TEST_CASE_TEMPLATE("loss: values by hand", T, float, double) {
  const auto x = matrix<T>({{1, 2}, {-1, 0.5}}), y = matrix<T>({{0, 2}, {1, -1}});
  CHECK(near<T>(result<T>(MSE{}, x, y).loss, (1 + 0 + 4 + 2.25) / 4));
  CHECK(near<T>(result<T>(MAE{}, x, y).loss, (1 + 0 + 2 + 1.5) / 4));
  CHECK(near<T>(result<T>(Huber{}, x, y).loss, (0.5 + 0 + 1.5 + 1.0) / 4));
  CHECK(near<T>(result<T>(loss_named("huber", {2.0}), x, y).loss, (0.5 + 0 + 2 + 1.125) / 4));
  CHECK(near<T>(result<T>(loss_named("quantile", {0.25}), x, y).loss, (0.75 + 0 + 0.25 * 2 + 0.75 * 1.5) / 4));
  CHECK(near<T>(result<T>(Poisson{}, x, matrix<T>({{0, 2}, {1, 3}})).loss,
                (std::exp(1.0) + std::exp(2.0) - 4 + std::exp(-1.0) + 1 + std::exp(0.5) - 1.5) / 4));
  const double e = std::exp(1.0);
  CHECK(near<T>(result<T>(BCE{}, x, matrix<T>({{0, 1}, {1, 0.5}})).loss,
                (std::log1p(e) + std::log1p(1 / (e * e)) + std::log1p(e) + std::log1p(std::exp(0.5)) - 0.25) / 4));
  const std::vector<std::int64_t> labels{1, 0};
  CHECK(near<T>(result<T>(CrossEntropy{}, x, Targets<T>(labels.data(), 2)).loss,
                (std::log1p(std::exp(-1.0)) + std::log1p(std::exp(1.5))) / 2));
}

TEST_CASE_TEMPLATE("loss: a mean over weights", T, float, double) {
  const auto x = matrix<T>({{1, 2}, {-1, 0.5}, {3, 3}}), y = matrix<T>({{0, 2}, {1, -1}, {0, 0}});
  Vector<T> weight(3);
  weight << 2, 1, 0;
  const Result<T> weighted = result<T>(MSE{}, x, y, weight);
  CHECK(near<T>(weighted.loss, (2 * 0.5 + 3.125) / 3));
  CHECK((weighted.gradient.row(2).array() == 0).all());
  CHECK(near<T>(static_cast<double>(weighted.gradient(0, 0)), 2.0 * 2 * 1 / (3 * 2)));
  weight << 0.5, 0.5, 0.5;
  const Result<T> equal = result<T>(MSE{}, x, y, weight), none = result<T>(MSE{}, x, y);
  CHECK(near<T>(equal.loss, none.loss));
  CHECK(support::relative_error(equal.gradient, none.gradient) <= 4 * std::numeric_limits<T>::epsilon());
}

TEST_CASE_TEMPLATE("loss: at a kink the derivative is zero", T, float, double) {
  const auto x = matrix<T>({{1.5, -2}});
  for (const Loss& loss : {Loss(MAE{}), Loss(loss_named("quantile", {0.3})), Loss(Huber{}), Loss(MSE{})}) {
    CAPTURE(std::string(name(loss)));
    const Result<T> at = result<T>(loss, x, x);
    CHECK(at.loss == 0);
    CHECK((at.gradient.array() == 0).all());
  }
}

TEST_CASE_TEMPLATE("loss: large logits neither overflow nor lose the loss", T, float, double) {
  const Result<T> right = result<T>(BCE{}, matrix<T>({{1000, -1000}}), matrix<T>({{1, 0}}));
  CHECK(right.loss == 0);
  CHECK((right.gradient.array() == 0).all());
  const Result<T> wrong = result<T>(BCE{}, matrix<T>({{1000, -1000}}), matrix<T>({{0, 1}}));
  CHECK(wrong.loss == 1000);
  CHECK(wrong.gradient(0, 0) == T(0.5));
  CHECK(wrong.gradient(0, 1) == T(-0.5));

  const std::int64_t first = 0, second = 1;
  CHECK(result<T>(CrossEntropy{}, matrix<T>({{1000, -1000}}), Targets<T>(&first, 1)).loss == 0);
  const Result<T> far = result<T>(CrossEntropy{}, matrix<T>({{1000, -1000}}), Targets<T>(&second, 1));
  CHECK(far.loss == 2000);
  CHECK(far.gradient(0, 0) == 1);
  CHECK(far.gradient(0, 1) == -1);
}

TEST_CASE_TEMPLATE("loss: a small loss keeps its digits", T, float, double) {
  const std::int64_t label = 0;
  const double exact = std::log1p(std::exp(-12.0));
  CHECK(near<T>(result<T>(BCE{}, matrix<T>({{12}}), matrix<T>({{1}})).loss, exact));
  // A sum that is close to 1 has no more: the loss is good to an ulp of 1.
  CHECK(std::abs(result<T>(CrossEntropy{}, matrix<T>({{12, 0}}), Targets<T>(&label, 1)).loss - exact) <=
        std::numeric_limits<T>::epsilon());
}

TEST_CASE_TEMPLATE("loss: a class of probability zero counts nothing, however unlikely", T, float, double) {
  const T infinity = std::numeric_limits<T>::infinity();
  const Matrix<T> x = Matrix<T>::Map(std::array<T, 3>{0, 0, -infinity}.data(), 1, 3);
  Network<T> network(1, {{3, Softmax{}}});
  network.bias(1) = x.row(0).transpose();
  const Matrix<T> X = Matrix<T>::Zero(1, 1), y = matrix<T>({{0.5, 0.5, 0}});
  const Samples<T> samples{{X.data(), 1, 1, Eigen::OuterStride<>(1)}, Targets<T>(y)};
  CHECK(near<T>(evaluate<T>(network, CrossEntropy{}, samples), std::log(2.0)));
}

TEST_CASE_TEMPLATE("loss: labels and one-hot rows are the same target", T, float, double) {
  support::Draw draw(1);
  const auto x = draw.matrix<T>(20, 7, -3, 3);
  std::vector<std::int64_t> labels(20);
  Matrix<T> one_hot = Matrix<T>::Zero(20, 7);
  for (Index i = 0; i < 20; ++i) {
    labels[static_cast<std::size_t>(i)] = draw.below(7);
    one_hot(i, labels[static_cast<std::size_t>(i)]) = 1;
  }
  const Result<T> by_label = result<T>(CrossEntropy{}, x, Targets<T>(labels.data(), 20));
  const Result<T> by_row = result<T>(CrossEntropy{}, x, one_hot);
  CHECK(by_label.loss == by_row.loss);
  CHECK(support::same_bits(by_label.gradient, by_row.gradient));
}

TEST_CASE_TEMPLATE("loss: targets of the cross-entropy need not sum to one", T, float, double) {
  const auto x = matrix<T>({{1, 2, 0}}), y = matrix<T>({{0.5, 1, 0.5}}), doubled = Matrix<T>(2 * y);
  const Result<T> once = result<T>(CrossEntropy{}, x, y), twice = result<T>(CrossEntropy{}, x, doubled);
  CHECK(near<T>(twice.loss, 2 * once.loss));
  CHECK(support::relative_error(twice.gradient, Matrix<T>(2 * once.gradient)) <= 4 * std::numeric_limits<T>::epsilon());
}

TEST_CASE_TEMPLATE("loss: quantiles stand target by target", T, float, double) {
  // Two targets, three quantiles: outputs are (target 0: 0.1, 0.5, 0.9), (target 1: 0.1, 0.5, 0.9).
  const auto x = matrix<T>({{1, 2, 3, 4, 5, 6}}), y = matrix<T>({{2.5, 4.5}});
  const Result<T> found = result<T>(loss_named("quantile", {0.1, 0.5, 0.9}), x, y);
  const double exact = 0.1 * 1.5 + 0.5 * 0.5 + 0.1 * 0.5 + 0.1 * 0.5 + 0.5 * 0.5 + 0.1 * 1.5;
  CHECK(near<T>(found.loss, exact / 6));
  const double slopes[] = {-0.1, -0.5, 0.1, -0.1, 0.5, 0.1};
  for (Index j = 0; j < 6; ++j) CHECK(std::abs(static_cast<double>(found.gradient(0, j)) - slopes[j] / 6) <= 1e-7);
}

TEST_CASE("loss: weights whose sum is beyond the range of float") {
  const Matrix<float> x = support::Draw(1).matrix<float>(32, 3), y = Matrix<float>::Constant(32, 3, 0.5f);
  const Vector<float> one = Vector<float>::Ones(32), large = Vector<float>::Constant(32, 0x1p122f);
  for (const Loss& loss : {Loss(MSE{}), Loss(CrossEntropy{})}) {
    const Result<float> plain = result<float>(loss, x, y, one), weighted = result<float>(loss, x, y, large);
    CHECK(plain.gradient.norm() > 0);
    CHECK(support::same_bits(weighted.gradient, plain.gradient));
    CHECK(weighted.loss == plain.loss);
  }
}
