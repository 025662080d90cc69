#include "chainrule/init.hpp"

#include <cmath>
#include <stdexcept>
#include <type_traits>

#include "chainrule/random.hpp"
#include "named.hpp"
#include "number.hpp"

namespace chainrule {

double He::draw(Random& random, double d_in, double) const { return std::sqrt(2 / d_in) * random.normal(); }
double Xavier::draw(Random& random, double d_in, double d_out) const {
  return std::sqrt(2 / (d_in + d_out)) * random.normal();
}
double LeCun::draw(Random& random, double d_in, double) const { return std::sqrt(1 / d_in) * random.normal(); }
double Normal::draw(Random& random, double, double) const { return std * random.normal(); }
double Uniform::draw(Random& random, double, double) const { return bound * (2 * random.uniform() - 1); }

Init init_named(const std::string& name) { return Named<Init>::make("init", name); }

Init init_named(const std::string& name, double parameter) {
  Init result = init_named(name);
  if (!chainrule::parameter(result)) throw std::invalid_argument("init '" + name + "' has no parameter");
  std::visit([parameter](auto& i) { i.set_parameter(parameter); }, result);
  check(result);
  return result;
}

void check(const Init& init) {
  std::visit(
      [](const auto& i) {
        if constexpr (std::decay_t<decltype(i)>::parameter_name != nullptr)
          require(i.parameter() > 0, i.parameter_name, i.parameter(), "a finite number > 0");
      },
      init);
}

std::vector<std::string> init_names() { return Named<Init>::names(); }

const char* name(const Init& init) { return name_of(init); }

Init default_init(const Activation& activation) {
  if (rectifier(activation)) return He{};
  return Xavier{};
}

template <class T>
void initialise(Network<T>& network, const std::vector<Init>& inits, std::uint64_t seed) {
  const auto layers = static_cast<std::size_t>(network.depth());
  if (inits.size() != 1 && inits.size() != layers)
    throw std::invalid_argument("inits has " + std::to_string(inits.size()) + " entries; expected 1 or " +
                                std::to_string(layers) + ", one a layer");
  for (const Init& init : inits) check(init);
  for (Index l = 1; l <= network.depth(); ++l) {
    Random random(seed, static_cast<std::uint64_t>(l));
    const auto d_in = static_cast<double>(network.units(l - 1)), d_out = static_cast<double>(network.units(l));
    const Init& init = inits[inits.size() == 1 ? 0 : static_cast<std::size_t>(l - 1)];
    std::visit(
        [&](const auto& rule) {
          T* weight = network.weight(l).data();
          const Index count = network.weight(l).size();
          for (Index i = 0; i < count; ++i) weight[i] = static_cast<T>(rule.draw(random, d_in, d_out));
        },
        init);
    network.bias(l).setZero();
  }
}

std::optional<double> parameter(const Init& init) {
  return std::visit(
      [](const auto& i) { return i.parameter_name ? std::optional<double>(i.parameter()) : std::nullopt; }, init);
}

template <class T>
void initialise(Network<T>& network, std::uint64_t seed) {
  std::vector<Init> inits;
  for (const Layer& layer : network.layers()) inits.push_back(default_init(layer.activation));
  initialise(network, inits, seed);
}

template void initialise(Network<float>&, const std::vector<Init>&, std::uint64_t);
template void initialise(Network<double>&, const std::vector<Init>&, std::uint64_t);
template void initialise(Network<float>&, std::uint64_t);
template void initialise(Network<double>&, std::uint64_t);

}  // namespace chainrule
