// Topology, the layout of θ, and views of it.

#include <doctest/doctest.h>

#include <limits>
#include <new>
#include <set>
#include <stdexcept>

#include "chainrule/init.hpp"
#include "chainrule/network.hpp"

using namespace chainrule;

namespace {

constexpr Index most = std::numeric_limits<Index>::max();

template <class T>
Network<T> sample() {
  return {3, {{4, Tanh{}}, {1, ReLU{}}, {5, Softmax{}}}};
}

}  // namespace

TEST_CASE_TEMPLATE("network: topology", T, float, double) {
  const Network<T> network = sample<T>();
  CHECK(network.depth() == 3);
  CHECK(network.inputs() == 3);
  CHECK(network.outputs() == 5);
  CHECK(network.widest() == 5);
  for (Index l = 0; l <= 3; ++l)
    CHECK(network.units(l) == std::array<Index, 4>{3, 4, 1, 5}[static_cast<std::size_t>(l)]);
  CHECK(network.layers().size() == 3);
  CHECK(network.activation(1) == Activation(Tanh{}));
  CHECK(network.activation(2) == Activation(ReLU{}));
  CHECK(network.activation(3) == Activation(Softmax{}));
  CHECK(Network<T>(9, {{2, Identity{}}}).widest() == 9);
}

TEST_CASE_TEMPLATE("network: parameters lie packed as W_1, b_1, W_2, b_2, …, aligned, zero at first", T, float,
                   double) {
  Network<T> network = sample<T>();
  CHECK(network.parameter_count() == 3 * 4 + 4 + 4 * 1 + 1 + 1 * 5 + 5);
  CHECK(network.parameters().size() == network.parameter_count());
  CHECK(reinterpret_cast<std::uintptr_t>(network.parameters().data()) % 64 == 0);
  CHECK((network.parameters().array() == 0).all());
  Index at = 0;
  for (Index l = 1; l <= 3; ++l) {
    CAPTURE(l);
    const Index in = network.units(l - 1), out = network.units(l);
    CHECK(network.offset(l) == at);
    CHECK(network.weight(l).data() == network.parameters().data() + at);
    CHECK(network.weight(l).rows() == in);
    CHECK(network.weight(l).cols() == out);
    CHECK(network.weight(l).outerStride() == out);
    at += in * out;
    CHECK(network.bias_offset(l) == at);
    CHECK(network.bias(l).data() == network.parameters().data() + at);
    CHECK(network.bias(l).size() == out);
    CHECK(network.weight_and_bias(l).data() == network.weight(l).data());
    CHECK(network.weight_and_bias(l).rows() == in + 1);
    at += out;
  }
  CHECK(at == network.parameter_count());
}

TEST_CASE_TEMPLATE("network: views show the same numbers", T, float, double) {
  Network<T> network = sample<T>();
  network.parameters() =
      Vector<T>::LinSpaced(network.parameter_count(), 0, static_cast<T>(network.parameter_count() - 1));
  CHECK(network.weight(1)(0, 0) == 0);
  CHECK(network.weight(1)(2, 3) == 11);
  CHECK(network.bias(1)[3] == 15);
  CHECK(network.weight(2)(3, 0) == 19);
  CHECK(network.bias(2)[0] == 20);
  CHECK(network.weight_and_bias(3)(1, 4) == 30);
  network.weight(1)(1, 2) = 100;
  CHECK(network.parameters()[6] == 100);
  const Network<T>& constant = network;
  CHECK(constant.weight(1)(1, 2) == 100);
  CHECK(constant.bias(3)[4] == network.parameters()[30]);
  CHECK(constant.parameters().data() == network.parameters().data());
}

TEST_CASE_TEMPLATE("network: a copy has parameters and an id of its own", T, float, double) {
  Network<T> network = sample<T>();
  network.parameters().setConstant(2);
  Network<T> copy(network);
  CHECK((copy.parameters() == network.parameters()));
  copy.parameters()[0] = 9;
  CHECK(network.parameters()[0] == 2);
  CHECK(copy.layers().size() == 3);
  CHECK(copy.offset(3) == network.offset(3));
  const std::set<std::uint64_t> ids{network.id(), copy.id(), sample<T>().id(), sample<T>().id(), 0};
  CHECK(ids.size() == 5);
}

TEST_CASE_TEMPLATE("network: what is no network", T, float, double) {
  using Layers = std::vector<Layer>;
  CHECK_THROWS_AS(Network<T>(3, Layers{}), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>(0, Layers{{2, Tanh{}}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>(-3, Layers{{2, Tanh{}}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>(3, Layers{{0, Tanh{}}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>(3, Layers{{2, Tanh{}}, {-1, Tanh{}}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>(3, Layers{{2, Softmax{}}, {1, Tanh{}}}), std::invalid_argument);
  CHECK_THROWS_AS(Network<T>(3, Layers{{2, Exp{}}, {1, Tanh{}}}), std::invalid_argument);
  CHECK_NOTHROW(Network<T>(3, Layers{{2, Exp{}}}));
}

TEST_CASE_TEMPLATE("network: more parameters than can be counted or held", T, float, double) {
  using Layers = std::vector<Layer>;
  CHECK_THROWS_AS(Network<T>(most, Layers{{1, Tanh{}}}), std::length_error);
  CHECK_THROWS_AS(Network<T>(most - 1, Layers{{2, Tanh{}}}), std::length_error);
  CHECK_THROWS_AS(Network<T>(1, Layers{{most, Tanh{}}}), std::length_error);
  CHECK_THROWS_AS(Network<T>(1, Layers{{most / 2, Tanh{}}, {1, Tanh{}}}), std::length_error);
  CHECK_THROWS_AS(Network<T>(Index{1} << 31, Layers{{Index{1} << 31, Tanh{}}, {Index{1} << 31, Tanh{}}}),
                  std::length_error);
  CHECK_THROWS_AS(Network<T>(Index{1} << 25, Layers{{Index{1} << 25, Tanh{}}}), std::bad_alloc);
}

TEST_CASE("network: parameters of activations and initialisers that are out of range") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Activation& activation :
       {Activation(LeakyReLU{{}, nan}), Activation(LeakyReLU{{}, -1}), Activation(ELU{{}, 0})})
    CHECK_THROWS_AS(Network<double>(2, {{1, activation}}), std::invalid_argument);
  Network<double> network(2, {{1, Identity{}}});
  for (const Init& init : {Init(Normal{nan}), Init(Uniform{-1})})
    CHECK_THROWS_AS(initialise(network, {init}, 0), std::invalid_argument);
  CHECK((network.parameters().array() == 0).all());
}
