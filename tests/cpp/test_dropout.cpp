// Which units drop out, and that the gradient is that of what is left.

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/threads.hpp"
#include "chainrule/trainer.hpp"
#include "support.hpp"

using namespace chainrule;
using support::Draw;
using support::Problem;
using support::same_bits;

namespace {

template <class T>
Problem<T> thinned_problem(Index rows) {
  Draw draw(3);
  Problem<T> problem{Network<T>(5, {{70, Tanh{}, 0.3}, {9, SiLU{}, 0.5}, {2, Identity{}}}), MSE{}, {}, {}, {}, {}};
  problem.network.parameters() = draw.vector<T>(problem.network.parameter_count(), -0.4, 0.4);
  problem.X = draw.matrix<T>(rows, 5);
  problem.y = draw.matrix<T>(rows, 2);
  return problem;
}

}  // namespace

TEST_CASE_TEMPLATE("dropout: masks have the asked share of zeros, and keep the mean", T, float, double) {
  const auto problem = thinned_problem<T>(2000);
  Tape<T> tape(problem.network, 2000);
  tape.set_draw(MaskDraw{1, 2, 0});
  forward<T>(problem.network, problem.X, tape);
  CHECK_FALSE(tape.drops_out(0));
  CHECK_FALSE(tape.drops_out(3));
  for (const Index l : {1, 2}) {
    REQUIRE(tape.drops_out(l));
    const Matrix<T> mask = tape.mask(l), a = tape.activation(l), passed = tape.passed_on(l);
    const double share = problem.network.dropout(l), zeros = static_cast<double>((mask.array() == 0).count());
    CHECK(zeros / static_cast<double>(mask.size()) == doctest::Approx(share).epsilon(0.02));
    CHECK(mask.maxCoeff() == doctest::Approx(1 / (1 - share)).epsilon(1e-4));
    CHECK(same_bits(passed, Matrix<T>(a.cwiseProduct(mask))));
    CHECK(mask.mean() == doctest::Approx(1).epsilon(0.02));
  }
}

TEST_CASE_TEMPLATE("dropout: a sample's mask depends on its place in the stream alone", T, float, double) {
  const auto problem = thinned_problem<T>(30);
  Tape<T> whole(problem.network, 30), part(problem.network, 30);
  whole.set_draw(MaskDraw{1, 2, 0});
  part.set_draw(MaskDraw{1, 2, 11});
  forward<T>(problem.network, problem.X, whole);
  forward<T>(problem.network, problem.X.bottomRows(19), part);
  for (const Index l : {1, 2}) CHECK(same_bits(Matrix<T>(whole.mask(l).bottomRows(19)), Matrix<T>(part.mask(l))));
  part.set_draw(MaskDraw{1, 3, 11});
  forward<T>(problem.network, problem.X.bottomRows(19), part);
  CHECK_FALSE(same_bits(Matrix<T>(whole.mask(1).bottomRows(19)), Matrix<T>(part.mask(1))));
}

TEST_CASE("dropout: the gradient is that of the thinned network") {
  auto problem = thinned_problem<double>(7);
  Network<double>& network = problem.network;
  Tape<double> tape(network, 7);
  tape.set_draw(MaskDraw{5, 6, 0});
  Vector<double> gradient(network.parameter_count());
  chainrule::gradient<double>(network, problem.loss, problem.batch(), tape,
                              VectorView<double>(gradient.data(), gradient.size()));
  const auto loss = [&](const Eigen::VectorXd& theta) {
    network.parameters() = theta;
    return deltas<double>(network, problem.loss, problem.batch(), tape);
  };
  CHECK(support::check_gradient(loss, Vector<double>(network.parameters()), gradient) <= 1e-8);
}

TEST_CASE("dropout: a batch that is taken in parts has the masks of one that is not") {
  auto problem = thinned_problem<double>(8000);
  const Network<double>& network = problem.network;
  const Index n = problem.X.rows(), at_a_time = rows_at_a_time(network, n), few = 500;
  REQUIRE(at_a_time < n / 2);
  REQUIRE(at_a_time % few != 0);
  Tape<double> tape(network, at_a_time);
  const auto gradient_of = [&](const Batch<double>& batch, const MaskDraw& draw) {
    Vector<double> gradient(network.parameter_count());
    tape.set_draw(draw);
    chainrule::gradient<double>(network, problem.loss, batch, tape,
                                VectorView<double>(gradient.data(), gradient.size()));
    CHECK(tape.draw()->first == draw.first);
    return gradient;
  };
  std::vector<Index> backwards(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) backwards[static_cast<std::size_t>(i)] = n - 1 - i;
  for (const Index* places : {static_cast<const Index*>(nullptr), static_cast<const Index*>(backwards.data())}) {
    const MaskDraw draw{5, 6, 7, places};
    const Vector<double> whole = gradient_of(problem.batch(), draw);
    Vector<double> sum = Vector<double>::Zero(whole.size());
    for (Index first = 0; first < n; first += few)
      sum += gradient_of(problem.batch().part(first, few, static_cast<double>(n)), draw.from(first));
    CHECK(support::relative_error(whole, sum) <= 1e-14);
  }
}

TEST_CASE_TEMPLATE("dropout: the same bits for any number of threads, and none at prediction", T, float, double) {
  const int before = num_threads();
  std::vector<Vector<T>> trained;
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    auto problem = thinned_problem<T>(400);
    Optimizer<T> optimizer(Adam{});
    FitOptions options;
    options.epochs = 3;
    options.batch_size = 150;
    fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options);
    trained.push_back(problem.network.parameters());
  }
  set_num_threads(before);
  CHECK(same_bits(trained[0], trained[1]));
  CHECK(same_bits(trained[0], trained[2]));

  const auto problem = thinned_problem<T>(20);
  Network<T> plain(5, {{70, Tanh{}}, {9, SiLU{}}, {2, Identity{}}});
  plain.parameters() = problem.network.parameters();
  Matrix<T> one(20, 2), other(20, 2);
  predict<T>(problem.network, problem.X, one.data());
  predict<T>(plain, problem.X, other.data());
  CHECK(same_bits(one, other));
}

TEST_CASE("dropout: only of hidden layers, and less than all") {
  CHECK_THROWS_AS(Network<double>(2, {{3, Tanh{}}, {1, Identity{}, 0.1}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<double>(2, {{3, Tanh{}, 1.0}, {1, Identity{}}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<double>(2, {{3, Tanh{}, -0.1}, {1, Identity{}}}), std::invalid_argument);
}

TEST_CASE_TEMPLATE("dropout: a tape that a fit was given drops nothing afterwards", T, float, double) {
  auto problem = thinned_problem<T>(12);
  const auto tape = std::make_shared<Tape<T>>(problem.network, 12);
  Optimizer<T> optimizer{Adam{}};
  FitOptions options;
  options.epochs = 1;
  fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, {}, {}, tape);
  forward<T>(problem.network, problem.X, *tape);
  CHECK_FALSE(tape->drops_out(1));
  CHECK(same_bits(Matrix<T>(tape->passed_on(1)), Matrix<T>(tape->activation(1))));
}
