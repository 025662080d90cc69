// Sparse samples give what the same samples give as a matrix.

#include <doctest/doctest.h>

#include <vector>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/sparse_columns.hpp"
#include "chainrule/threads.hpp"
#include "chainrule/trainer.hpp"
#include "support.hpp"

using namespace chainrule;
using support::Draw;
using support::Problem;
using support::same_bits;

namespace {

/// A matrix with a share of numbers in it, and the same in CSR form. Some numbers come in two parts.
template <class T>
struct SparseMatrix {
  Matrix<T> dense;
  std::vector<T> values;
  std::vector<std::int32_t> columns;
  std::vector<std::int64_t> starts{0};

  SparseMatrix(Index rows, Index cols, double share, Draw& draw) : dense(Matrix<T>::Zero(rows, cols)) {
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) {
        if (draw.uniform(0, 1) >= share) continue;
        for (int part = 0; part < (j % 5 == 0 ? 2 : 1); ++part) {
          const auto value = static_cast<T>(0.25) * static_cast<T>(1 + draw.below(8));
          dense(i, j) += value;
          values.push_back(value);
          columns.push_back(static_cast<std::int32_t>(j));
        }
      }
      starts.push_back(static_cast<std::int64_t>(values.size()));
    }
  }
  SparseRows<T> rows() const { return {values.data(), columns.data(), starts.data(), dense.rows(), dense.cols()}; }
};

template <class T>
constexpr double tolerance = 200 * std::numeric_limits<T>::epsilon();

template <class T>
double distance(const Matrix<T>& one, const Matrix<T>& other) {
  return static_cast<double>((one - other).norm() / other.norm());
}

}  // namespace

TEST_CASE_TEMPLATE("inputs: sparse rows train, predict and evaluate as a matrix does", T, float, double) {
  for (const double share : {0.0, 0.05, 0.15, 0.6})
    for (const Index units : {1, 3, 33, 100, 700}) {
      CAPTURE(share);
      CAPTURE(units);
      Draw draw(static_cast<std::uint64_t>(units));
      const Index inputs = units == 700 ? 900 : 61;  // with 700 units the weights are not rearranged
      const SparseMatrix<T> X(90, inputs, share, draw);
      CHECK(Inputs<T>(X.rows()).mostly_zeros() == (share < 0.25));
      Network<T> sparse(inputs, {{units, GELU{}, 0.1}, {3, Softmax{}}});
      sparse.parameters() = draw.vector<T>(sparse.parameter_count(), -0.1, 0.1);
      Network<T> dense(sparse);
      std::vector<std::int64_t> labels;
      for (Index i = 0; i < 90; ++i) labels.push_back(draw.below(3));
      const Targets<T> y(labels.data(), 90);
      const Samples<T> sparse_samples{X.rows(), y},
          dense_samples{ConstMatrixView<T>(X.dense.data(), 90, inputs, Eigen::OuterStride<>(inputs)), y};
      const Loss loss = CrossEntropy{};

      Matrix<T> one(90, 3), other(90, 3);
      predict<T>(sparse, X.rows(), one.data());
      predict<T>(dense, X.dense, other.data());
      CHECK(distance(one, other) <= tolerance<T>);
      CHECK(evaluate<T>(sparse, loss, sparse_samples) ==
            doctest::Approx(evaluate<T>(dense, loss, dense_samples)).epsilon(tolerance<T>));
      Tape<T> sparse_tape(sparse, 90), dense_tape(dense, 90);
      forward<T>(sparse, X.rows(), sparse_tape);
      CHECK(same_bits(Matrix<T>(sparse_tape.activation(0)), X.dense));

      for (const bool clipped : {false, true}) {
        FitOptions options;
        options.epochs = 2;
        options.batch_size = 40;
        if (clipped) options.clip_norm = 0.5;
        chainrule::SGD rule;
        rule.lr = 0.1;
        Optimizer<T> sparse_optimizer(rule), dense_optimizer(rule);
        fit<T>(sparse, loss, sparse_samples, nullptr, sparse_optimizer, options);
        fit<T>(dense, loss, dense_samples, nullptr, dense_optimizer, options);
        CHECK(distance<T>(Matrix<T>(sparse.parameters()), Matrix<T>(dense.parameters())) <= tolerance<T>);
      }
    }
}

TEST_CASE_TEMPLATE("inputs: sparse rows give the same bits for any number of threads", T, float, double) {
  const int before = num_threads();
  std::vector<Vector<T>> trained;
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    Draw draw(2);
    const SparseMatrix<T> X(300, 800, 0.1, draw);
    Network<T> network(800, {{150, ReLU{}}, {1, Identity{}}});
    network.parameters() = draw.vector<T>(network.parameter_count(), -0.1, 0.1);
    const Matrix<T> y = draw.matrix<T>(300, 1);
    Optimizer<T> optimizer(Adam{});
    FitOptions options;
    options.epochs = 2;
    options.batch_size = 128;
    fit<T>(network, MSE{}, Samples<T>{X.rows(), Targets<T>(y)}, nullptr, optimizer, options);
    trained.push_back(network.parameters());
  }
  set_num_threads(before);
  CHECK(same_bits(trained[0], trained[1]));
  CHECK(same_bits(trained[0], trained[2]));
}

TEST_CASE("inputs: from a sample on") {
  Draw draw(4);
  const SparseMatrix<double> X(9, 20, 0.3, draw);
  const Inputs<double> rest = Inputs<double>(X.rows()).from(4);
  CHECK(rest.rows() == 5);
  CHECK(rest.cols() == 20);
  Vector<double> row(20);
  rest.load(2, row.data());
  CHECK(same_bits(row, Vector<double>(X.dense.row(6).transpose())));
}

TEST_CASE_TEMPLATE("inputs: what is mostly zeros needs no place on the tape", T, float, double) {
  Draw draw(3);
  const SparseMatrix<T> X(50, 400, 0.1, draw);
  Network<T> network(400, {{20, Tanh{}}, {2, Identity{}}});
  network.parameters() = draw.vector<T>(network.parameter_count(), -0.1, 0.1);
  const Matrix<T> y = draw.matrix<T>(50, 2);
  const Batch<T> sparse{{X.rows(), y}, 50},
      dense{{ConstMatrixView<T>(X.dense.data(), 50, 400, Eigen::OuterStride<>(400)), y}, 50};
  Tape<T> with(network, 50), without(network, 50, {.inputs = false});
  CHECK(without.bytes() + 50 * 400 * sizeof(T) <= with.bytes());
  CHECK(!without.fits(50));
  CHECK(without.fits(50, {.inputs = false}));
  Vector<T> one(network.parameter_count()), other(network.parameter_count());
  const auto view = [](Vector<T>& v) { return VectorView<T>(v.data(), v.size()); };
  CHECK(gradient<T>(network, MSE{}, sparse, with, view(one)) ==
        gradient<T>(network, MSE{}, sparse, without, view(other)));
  CHECK(same_bits(Matrix<T>(one), Matrix<T>(other)));
  CHECK_THROWS_AS(gradient<T>(network, MSE{}, dense, without, view(other)), std::invalid_argument);
}

TEST_CASE_TEMPLATE("inputs: columns of a sparse batch that are known in advance change no bit", T, float, double) {
  Draw draw(4);
  const int before = num_threads();
  const SparseMatrix<T> X(400, 800, 0.1, draw);
  Network<T> network(800, {{64, Tanh{}}, {2, Identity{}}});
  network.parameters() = draw.vector<T>(network.parameter_count(), -0.1, 0.1);
  const Matrix<T> y = draw.matrix<T>(400, 2);
  const std::vector<Index> order = {7, 3, 399, 0, 12, 30};
  for (const Batch<T>& batch : {Batch<T>{{X.rows(), y}, 400}, Batch<T>{{X.rows(), y}, 6, order.data()}}) {
    SparseColumns<T> columns;
    columns.load(batch, 0, 801);
    Batch<T> known = batch;
    known.columns = &columns;
    Tape<T> tape(network, 400);
    Vector<T> one(network.parameter_count()), other(network.parameter_count());
    const auto view = [](Vector<T>& v) { return VectorView<T>(v.data(), v.size()); };
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      CHECK(gradient<T>(network, MSE{}, batch, tape, view(one)) ==
            gradient<T>(network, MSE{}, known, tape, view(other)));
      CHECK(same_bits(Matrix<T>(one), Matrix<T>(other)));
    }
  }
  set_num_threads(before);
}

TEST_CASE_TEMPLATE("inputs: a gradient that overflows by a large stored number is not taken", T, float, double) {
  Network<T> network(9, {{3, Identity{}}, {1, Identity{}}});
  network.weight(1).row(0).setOnes();  // the large numbers meet zeros
  network.weight(2).setConstant(T(1e6));
  const Vector<T> before = network.parameters();
  const T largest = std::numeric_limits<T>::max() / 2;
  const std::vector<T> values{1, largest, largest};
  const std::vector<std::int32_t> columns{0, 4, 4};
  const std::vector<std::int64_t> starts{0, 1, 2, 3};
  const SparseRows<T> X{values.data(), columns.data(), starts.data(), 3, 9};
  const Matrix<T> y = Matrix<T>::Constant(3, 1, T(5));
  Tape<T> tape(network, 3);
  Optimizer<T> optimizer(SGD{});
  REQUIRE(Inputs<T>(X).mostly_zeros());
  CHECK_FALSE(std::isfinite(step<T>(network, MSE{}, {{X, y}, 3}, tape, optimizer)));
  CHECK(support::same_bits(Vector<T>(network.parameters()), before));
}

TEST_CASE_TEMPLATE("inputs: a stored number that is not finite is found where it is", T, float, double) {
  Network<T> network(9, {{3, Tanh{}}, {1, Identity{}}});
  const std::vector<T> values{1, 2, std::numeric_limits<T>::quiet_NaN()};
  const std::vector<std::int32_t> columns{0, 4, 7};
  const std::vector<std::int64_t> starts{0, 1, 1, 3};
  const SparseRows<T> X{values.data(), columns.data(), starts.data(), 3, 9};
  const Matrix<T> y = Matrix<T>::Zero(3, 1);
  REQUIRE(Inputs<T>(X).mostly_zeros());
  const auto found = find_non_finite<T>(network, MSE{}, {{X, y}, 3}, {}, {}, 0);
  REQUIRE(found);
  CHECK(found->cause == NonFinite::Cause::bad_input);
  CHECK(found->tensor == "X");
  CHECK(found->row == 2);
  CHECK(found->column == 7);
}

TEST_CASE_TEMPLATE("inputs: sparse rows that cannot be", T, float, double) {
  const std::vector<T> values{1, 2, 3};
  const std::vector<std::int32_t> good{0, 1, 2};
  const std::vector<std::int64_t> starts{0, 1, 2, 3};
  const auto of = [&](const std::vector<std::int32_t>& columns, const std::vector<std::int64_t>& from) {
    return Inputs<T>(SparseRows<T>{values.data(), columns.data(), from.data(), 3, 3});
  };
  CHECK(of(good, starts).rows() == 3);
  for (const std::int32_t column : {-1, 3, 1000000000}) {
    CAPTURE(column);
    CHECK_THROWS_AS(of({0, 1, column}, starts), std::invalid_argument);
  }
  CHECK_THROWS_AS(of(good, {-100000000, 1, 2, 3}), std::invalid_argument);
  CHECK_THROWS_AS(of({1, 0, 2}, {0, 2, 2, 3}), std::invalid_argument);  // not ascending
  CHECK_THROWS_AS(of(good, {0, 3, 1, 3}), std::invalid_argument);
}

TEST_CASE("inputs: a matrix that would not outlive the call is refused when it is compiled") {
  CHECK_FALSE(std::is_constructible_v<Inputs<double>, Matrix<double>&&>);
  CHECK_FALSE(std::is_constructible_v<Targets<double>, Matrix<double>&&>);
  CHECK_FALSE(std::is_constructible_v<Targets<double>, Vector<double>&&>);
  CHECK(std::is_constructible_v<Inputs<double>, const Matrix<double>&>);
  CHECK(std::is_constructible_v<Targets<double>, const Vector<double>&>);
}
