// How weights are drawn: distributions, streams, defaults.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "chainrule/init.hpp"
#include "chainrule/random.hpp"
#include "support.hpp"

using namespace chainrule;

namespace {

/// Of one layer from 300 to 200 units: 60,000 weights.
template <class T>
Eigen::VectorXd weights(const Init& init, std::uint64_t seed = 1) {
  Network<T> network(300, {{200, Tanh{}}});
  network.bias(1).setConstant(9);
  initialise(network, std::vector<Init>{init}, seed);
  CHECK((network.bias(1).array() == 0).all());
  return network.parameters().head(60000).template cast<double>();
}

}  // namespace

TEST_CASE("init: names and parameters") {
  const std::vector<std::string> expected{"he", "xavier", "lecun", "normal", "uniform"};
  CHECK(init_names() == expected);
  for (const std::string& each : expected) CHECK(name(init_named(each)) == each);
  CHECK(std::get<Normal>(init_named("normal")).std == 0.01);
  CHECK(std::get<Uniform>(init_named("uniform")).bound == 0.05);
  CHECK(std::get<Normal>(init_named("normal", 0.3)).std == 0.3);
  CHECK(std::get<Uniform>(init_named("uniform", 0.3)).bound == 0.3);
  CHECK_THROWS_AS(init_named("glorot"), std::invalid_argument);
  CHECK_THROWS_WITH(init_named("glorot"), doctest::Contains("xavier"));
  CHECK_THROWS_AS(init_named("glorot", 1), std::invalid_argument);
  CHECK_THROWS_AS(init_named("he", 1), std::invalid_argument);
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(init_named("normal", bad), std::invalid_argument);
    CHECK_THROWS_AS(init_named("uniform", bad), std::invalid_argument);
  }
}

TEST_CASE_TEMPLATE("init: normal distributions", T, float, double) {
  const std::vector<std::pair<Init, double>> variances{
      {He{}, 2.0 / 300}, {Xavier{}, 2.0 / 500}, {LeCun{}, 1.0 / 300}, {Normal{}, 1e-4}, {Normal{2.0}, 4.0}};
  for (const auto& each : variances) {
    const auto& init = each.first;
    const double variance = each.second;
    CAPTURE(std::string(name(init)));
    const Eigen::VectorXd w = weights<T>(init);
    const double n = static_cast<double>(w.size());
    // Four standard errors of the mean, the variance and the fourth moment.
    CHECK(std::abs(w.mean()) < 4 * std::sqrt(variance / n));
    CHECK(std::abs(w.squaredNorm() / n / variance - 1) < 4 * std::sqrt(2 / n));
    CHECK(std::abs(w.array().pow(4).mean() / (variance * variance) - 3) < 4 * std::sqrt(96 / n));
  }
}

TEST_CASE_TEMPLATE("init: the uniform distribution", T, float, double) {
  for (const double bound : {0.05, 3.0}) {
    const Eigen::VectorXd w = weights<T>(Uniform{bound});
    const double n = static_cast<double>(w.size());
    const auto rounded = static_cast<double>(static_cast<T>(bound));
    CHECK(w.minCoeff() >= -rounded);
    CHECK(w.maxCoeff() <= rounded);
    CHECK(w.minCoeff() < -0.999 * bound);
    CHECK(w.maxCoeff() > 0.999 * bound);
    CHECK(std::abs(w.mean()) < 4 * bound / std::sqrt(3 * n));
    CHECK(std::abs(w.squaredNorm() / n / (bound * bound / 3) - 1) < 4 * std::sqrt(0.8 / n));
  }
}

TEST_CASE("init: float and double start from the same numbers") {
  for (const char* each : {"he", "xavier", "lecun", "normal", "uniform"}) {
    const Eigen::VectorXd of_double = weights<double>(init_named(each)), of_float = weights<float>(init_named(each));
    CHECK(of_float == of_double.cast<float>().cast<double>());
  }
}

TEST_CASE_TEMPLATE("init: weights depend on the seed and the layer, not on the layers around", T, float, double) {
  const auto make = [](Index last, std::uint64_t seed) {
    Network<T> network(5, {{5, Tanh{}}, {5, Tanh{}}, {last, Identity{}}});
    initialise(network, seed);
    return network;
  };
  const Network<T> one = make(2, 1), again = make(2, 1), other = make(2, 2), wide = make(9, 1);
  CHECK(support::same_bits(one.parameters(), again.parameters()));
  CHECK_FALSE((one.weight(1) == other.weight(1)));
  CHECK_FALSE((one.weight(1) == one.weight(2)));
  CHECK(support::same_bits(one.weight(1), wide.weight(1)));
  CHECK(support::same_bits(one.weight(2), wide.weight(2)));
}

TEST_CASE_TEMPLATE("init: a weight is what its layer's init draws, row by row", T, float, double) {
  Network<T> network(3, {{2, Tanh{}}, {4, ReLU{}}});
  const std::vector<Init> inits{Uniform{0.5}, Normal{3.0}};
  initialise(network, inits, 42);
  for (Index l = 1; l <= 2; ++l) {
    Random random(42, static_cast<std::uint64_t>(l));
    for (Index i = 0; i < network.units(l - 1); ++i)
      for (Index j = 0; j < network.units(l); ++j)
        CHECK(network.weight(l)(i, j) ==
              static_cast<T>(l == 1 ? 0.5 * (2 * random.uniform() - 1) : 3.0 * random.normal()));
  }
}

TEST_CASE_TEMPLATE("init: He for the ReLU family, Xavier otherwise", T, float, double) {
  std::vector<Layer> layers;
  std::vector<Init> expected;
  for (const Activation& each : support::hidden_activations()) {
    const std::string text = name(each);
    const bool xavier = text == "identity" || text == "sigmoid" || text == "tanh";
    CAPTURE(text);
    CHECK(std::string(name(default_init(each))) == (xavier ? "xavier" : "he"));
    layers.push_back({6, each});
    if (xavier)
      expected.push_back(Xavier{});
    else
      expected.push_back(He{});
  }
  CHECK(std::string(name(default_init(Softmax{}))) == "xavier");
  CHECK(std::string(name(default_init(Exp{}))) == "xavier");
  Network<T> by_default(4, layers), by_hand(4, layers);
  initialise(by_default, 3);
  initialise(by_hand, expected, 3);
  CHECK(support::same_bits(by_default.parameters(), by_hand.parameters()));
}

TEST_CASE_TEMPLATE("init: one for all or one a layer", T, float, double) {
  Network<T> network(3, {{2, Tanh{}}, {4, ReLU{}}, {1, Identity{}}}), twin(network);
  initialise(network, std::vector<Init>{LeCun{}}, 5);
  initialise(twin, std::vector<Init>{LeCun{}, LeCun{}, LeCun{}}, 5);
  CHECK(support::same_bits(network.parameters(), twin.parameters()));
  CHECK_THROWS_AS(initialise(network, std::vector<Init>{}, 5), std::invalid_argument);
  CHECK_THROWS_AS(initialise(network, std::vector<Init>{He{}, He{}}, 5), std::invalid_argument);
  CHECK_THROWS_AS(initialise(network, std::vector<Init>(4, He{}), 5), std::invalid_argument);
  CHECK(support::same_bits(network.parameters(), twin.parameters()));
}
