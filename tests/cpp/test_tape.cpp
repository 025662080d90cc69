// What a tape holds, where it lies, and what is kept.

#include <doctest/doctest.h>

#include <limits>
#include <new>
#include <set>
#include <stdexcept>

#include "chainrule/backprop.hpp"
#include "chainrule/tape.hpp"
#include "support.hpp"

using namespace chainrule;
using support::Draw;
using support::make_problem;

TEST_CASE_TEMPLATE("tape: shapes", T, float, double) {
  const Network<T> network(3, {{4, Tanh{}}, {64, GELU{}}, {1, Sigmoid{}}});
  Tape<T> tape(network, 10);
  CHECK(tape.rows() == 0);
  tape.set_rows(7);
  CHECK(tape.rows() == 7);
  CHECK(tape.fits(10));
  CHECK_FALSE(tape.fits(11));
  for (Index l = 0; l <= 3; ++l) {
    CAPTURE(l);
    CHECK(tape.activation(l).rows() == 7);
    CHECK(tape.activation(l).cols() == network.units(l));
    CHECK((tape.activation(l).array() == 0).all());
    if (l == 0) continue;
    CHECK(tape.delta(l).rows() == 7);
    CHECK(tape.delta(l).cols() == network.units(l));
    CHECK((tape.delta(l).array() == 0).all());
  }
  CHECK(tape.target().rows() == 7);
  CHECK(tape.target().cols() == 1);
}

TEST_CASE_TEMPLATE("tape: rows are registers apart, but not a multiple of 512 bytes", T, float, double) {
  for (const Index units : {1, 7, 8, 15, 16, 31, 32, 63, 64, 96, 112, 127, 128, 255, 256, 512}) {
    CAPTURE(units);
    const Network<T> network(units, {{units, GELU{}}});
    Tape<T> tape(network, 3);
    tape.set_rows(3);
    for (MatrixView<T> view :
         {tape.activation(0), tape.activation(1), tape.pre_activation(1), tape.delta(1), tape.target()}) {
      const auto bytes = view.outerStride() * static_cast<Index>(sizeof(T));
      CHECK(view.outerStride() > units);
      CHECK(bytes % 64 == 0);
      CHECK(bytes % 512 != 0);
      CHECK(reinterpret_cast<std::uintptr_t>(view.data()) % 64 == 0);
    }
  }
}

TEST_CASE_TEMPLATE("tape: how many rows of a batch at a time", T, float, double) {
  const Network<T> small(30, {{100, Tanh{}}, {2, Identity{}}});
  const double row = Tape<T>::row_bytes(small), far = 12 << 20;
  CHECK(row * 1000 + static_cast<double>(Tape<T>(small, 1).bytes()) - row ==
        static_cast<double>(Tape<T>(small, 1000).bytes()));
  const auto whole = static_cast<Index>(far / row);
  CHECK(rows_at_a_time(small, 1) == 1);
  CHECK(rows_at_a_time(small, whole) == whole);
  for (const Index rows : {whole + 1, 2 * whole, Index{1} << 40}) {
    CAPTURE(rows);
    const Index at_a_time = rows_at_a_time(small, rows);
    CHECK(row * static_cast<double>(at_a_time) <= far / 3);
    CHECK(row * static_cast<double>(at_a_time) > far / 5);  // as even as may be
  }
  CHECK(rows_at_a_time(small, whole + 1, {.inputs = false}) == whole + 1);

  const Network<T> many_parameters(100, {{8000, Tanh{}}, {1, Identity{}}}), wide(1, {{20000, Tanh{}}, {1, Identity{}}});
  CHECK(rows_at_a_time(many_parameters, 3071) == 3071);
  CHECK(rows_at_a_time(many_parameters, 1 << 20) == 1024);
  CHECK(rows_at_a_time(wide, 383) == 383);
  CHECK(rows_at_a_time(wide, 1 << 20) == 128);
}

TEST_CASE_TEMPLATE("tape: nothing overlaps", T, float, double) {
  const Network<T> network(5, {{9, Tanh{}}, {17, SiLU{}}, {2, Identity{}}});
  Tape<T> tape(network, 6, {.pre_activations = true});
  tape.set_rows(6);
  std::vector<MatrixView<T>> views{tape.activation(0), tape.target()};
  for (Index l = 1; l <= 3; ++l) views.insert(views.end(), {tape.activation(l), tape.pre_activation(l), tape.delta(l)});
  for (std::size_t i = 0; i < views.size(); ++i) views[i].setConstant(static_cast<T>(i + 1));
  for (std::size_t i = 0; i < views.size(); ++i) CHECK((views[i].array() == static_cast<T>(i + 1)).all());
}

TEST_CASE_TEMPLATE("tape: z is kept where it is needed, for the output, and on request", T, float, double) {
  std::vector<Layer> layers;
  for (const Activation& activation : support::hidden_activations()) layers.push_back({3, activation});
  layers.push_back({2, Identity{}});
  const Network<T> network(2, layers);
  Tape<T> tape(network, 4), all(network, 4, {.pre_activations = true});
  CHECK_FALSE(tape.fits(4, {.pre_activations = true}));
  CHECK(all.fits(4, {.pre_activations = true}));
  for (Index l = 1; l <= network.depth(); ++l) {
    CAPTURE(std::string(name(network.activation(l))));
    const std::string activation = name(network.activation(l));
    CHECK(tape.has_pre_activation(l) == (l == network.depth() || activation == "gelu" || activation == "silu"));
    CHECK(all.has_pre_activation(l));
  }
}

TEST_CASE_TEMPLATE("tape: keeping z changes no bit", T, float, double) {
  auto problem = make_problem<T>({{6, 21, 9, 3}, 33, true}, {Tanh{}, ELU{}, Identity{}}, MSE{}, 4);
  const Index count = problem.network.parameter_count();
  Tape<T> tape(problem.network, 33), all(problem.network, 33, {.pre_activations = true});
  Vector<T> one(count), other(count);
  const double loss = gradient<T>(problem.network, problem.loss, problem.batch(), tape, {one.data(), count});
  CHECK(gradient<T>(problem.network, problem.loss, problem.batch(), all, {other.data(), count}) == loss);
  CHECK(support::same_bits(one, other));
  const reference::Pass exact = problem.reference();
  for (Index l = 1; l <= 3; ++l)
    CHECK(support::relative_error(all.pre_activation(l), exact.z[static_cast<std::size_t>(l - 1)]) <=
          support::tolerance<T>);
}

TEST_CASE_TEMPLATE("tape: one for many rows holds few as well, whatever it held before", T, float, double) {
  auto problem = make_problem<T>({{6, 21, 4}, 40}, {Tanh{}, Softmax{}}, CrossEntropy{}, 5);
  const Index count = problem.network.parameter_count();
  Tape<T> used(problem.network, 40);
  for (const Index rows : {40, 3, 17, 1, 40}) {
    CAPTURE(rows);
    const Batch<T> batch{problem.samples(), rows};
    Tape<T> fresh(problem.network, rows);
    Vector<T> expected(count), ours(count);
    const double loss = gradient<T>(problem.network, problem.loss, batch, fresh, {expected.data(), count});
    CHECK(gradient<T>(problem.network, problem.loss, batch, used, {ours.data(), count}) == loss);
    CHECK(used.rows() == rows);
    CHECK(support::same_bits(ours, expected));
  }
}

TEST_CASE_TEMPLATE("tape: too large to count or to hold", T, float, double) {
  const Network<T> network(3, {{4, Tanh{}}});
  CHECK_THROWS_AS(Tape<T>(network, std::numeric_limits<Index>::max()), std::length_error);
  CHECK_THROWS_AS(Tape<T>(network, std::numeric_limits<Index>::max() / 8), std::length_error);
  CHECK_THROWS_AS(Tape<T>(network, -1), std::length_error);
  CHECK_THROWS_AS(Tape<T>(network, Index{1} << 48), std::bad_alloc);
}

TEST_CASE_TEMPLATE("tape: of a network of equal sizes that asks for more, or drops out otherwise", T, float, double) {
  const auto problem_of = [](const Activation& hidden) {
    return make_problem<T>({{3, 4, 2}, 5}, {hidden, Identity{}}, MSE{}, 1);
  };
  const auto plain = problem_of(Tanh{}), other = problem_of(ReLU{}), curved = problem_of(GELU{});
  Tape<T> tape(plain.network, 5);
  CHECK(tape.is_for(other.network));
  CHECK_FALSE(tape.is_for(curved.network));
  CHECK_THROWS_AS(forward<T>(curved.network, curved.X, tape), std::invalid_argument);
  CHECK(Tape<T>(curved.network, 5).is_for(plain.network));
  CHECK(Tape<T>(plain.network, 5, {.pre_activations = true}).is_for(curved.network));
  const Network<T> thinned(3, {{4, Tanh{}, 0.5}, {2, Identity{}}});
  CHECK_FALSE(tape.is_for(thinned));
  CHECK_FALSE(Tape<T>(thinned, 5).is_for(plain.network));
}
