// predict and evaluate: any rows, from many threads at once. That they equal the textbook's is test_backprop.cpp's.

#include <doctest/doctest.h>

#include <thread>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "support.hpp"

using namespace chainrule;
using support::make_problem;
using support::outputs;
using support::same_bits;
using support::Shape;

TEST_CASE_TEMPLATE("predict: a row's outputs do not depend on the rows beside it", T, float, double) {
  for (const auto& units : {std::vector<Index>{9, 37, 18, 5}, std::vector<Index>{700, 801, 3}}) {
    const Shape shape{units, 200};
    auto problem = make_problem<T>(shape, std::vector<Activation>(units.size() - 1, SiLU{}), MSE{}, 7);
    const Matrix<T> all = outputs(problem.network, problem.X);
    Tape<T> tape(problem.network, 200);
    for (Index rows : {1, 2, 5, 14, 15, 28, 29, 30, 57, 64, 113, 199, 200}) {
      CAPTURE(rows);
      const Matrix<T> X = problem.X.bottomRows(rows);
      CHECK(same_bits(outputs(problem.network, X), Matrix<T>(all.bottomRows(rows))));
      forward<T>(problem.network, X, tape);
      CHECK(same_bits(Matrix<T>(tape.activation(problem.network.depth())), Matrix<T>(all.bottomRows(rows))));
    }
  }
}

TEST_CASE_TEMPLATE("predict: from many threads at once", T, float, double) {
  auto problem = make_problem<T>({{20, 60, 60, 3}, 150}, {Tanh{}, GELU{}, Softmax{}}, CrossEntropy{}, 8);
  const Matrix<T> expected = outputs(problem.network, problem.X);
  const double loss = evaluate<T>(problem.network, problem.loss, problem.samples());
  std::vector<char> right(6, 0);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < right.size(); ++i)
    threads.emplace_back([&, i] {
      bool all = true;
      for (int repeat = 0; repeat < 10; ++repeat)
        all = all && same_bits(outputs(problem.network, problem.X), expected) &&
              evaluate<T>(problem.network, problem.loss, problem.samples()) == loss;
      right[i] = all;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(right == std::vector<char>(6, 1));
}

TEST_CASE_TEMPLATE("predict: no rows have no outputs, and no loss", T, float, double) {
  auto problem = make_problem<T>({{3, 4, 2}, 5}, {Tanh{}, Identity{}}, MSE{}, 2);
  const Matrix<T> none(0, 3), no_targets(0, 2);
  CHECK(outputs(problem.network, none).rows() == 0);
  const Samples<T> samples{{none.data(), 0, 3, Eigen::OuterStride<>(3)}, Targets<T>(no_targets)};
  CHECK(losses<T>(problem.network, problem.loss, samples).size() == 0);
  CHECK_THROWS_AS(evaluate<T>(problem.network, problem.loss, samples), std::invalid_argument);
}

TEST_CASE_TEMPLATE("predict: of many rows, now and then it asks whether to go on", T, float, double) {
  // 10¹⁰ operations at a time: 5,000 rows or so.
  const Network<T> network(1000, {{1000, Tanh{}}, {1, Identity{}}});
  const Matrix<T> X = Matrix<T>::Constant(7500, 1000, T(0.5)), y = Matrix<T>::Zero(7500, 1);
  Matrix<T> output(7500, 1);
  int calls = 0;
  const auto count = [&] { ++calls; };
  const auto end = [] { throw std::runtime_error("enough"); };
  predict<T>(network, X, output.data(), count);
  CHECK(calls == 1);
  CHECK((output.array() == 0).all());
  CHECK_THROWS_WITH(predict<T>(network, X, output.data(), end), "enough");
  CHECK(evaluate<T>(network, MSE{}, {X, y}, count) == 0);
  CHECK(calls == 2);
  CHECK_THROWS_WITH(evaluate<T>(network, MSE{}, {X, y}, end), "enough");
}
