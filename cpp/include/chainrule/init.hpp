#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "chainrule/activation.hpp"
#include "chainrule/network.hpp"

namespace chainrule {

// How a layer's weights are drawn. To add one, write it here and name it in the variant below. `draw(random, d_in,
// d_out)` gives one weight. Biases start at zero.

class Random;

struct InitDefaults {
  static constexpr const char* parameter_name = nullptr;
  static constexpr double parameter() { return 0; }
  static void set_parameter(double) {}
};

/// N(0, 2/d_in).  He et al. 2015
struct He : InitDefaults {
  static constexpr const char* name = "he";
  double draw(Random& random, double d_in, double d_out) const;
};

/// N(0, 2/(d_in + d_out)).  Glorot & Bengio 2010
struct Xavier : InitDefaults {
  static constexpr const char* name = "xavier";
  double draw(Random& random, double d_in, double d_out) const;
};

/// N(0, 1/d_in).  LeCun et al. 1998
struct LeCun : InitDefaults {
  static constexpr const char* name = "lecun";
  double draw(Random& random, double d_in, double d_out) const;
};

/// N(0, std²)
struct Normal {
  static constexpr const char* name = "normal";
  static constexpr const char* parameter_name = "std";
  double std = 0.01;
  double parameter() const { return std; }
  void set_parameter(double given) { std = given; }
  double draw(Random& random, double d_in, double d_out) const;
};

/// Uniform on [-bound, bound)
struct Uniform {
  static constexpr const char* name = "uniform";
  static constexpr const char* parameter_name = "bound";
  double bound = 0.05;
  double parameter() const { return bound; }
  void set_parameter(double given) { bound = given; }
  double draw(Random& random, double d_in, double d_out) const;
};

using Init = std::variant<He, Xavier, LeCun, Normal, Uniform>;

/// std::invalid_argument for an unknown name.
Init init_named(const std::string& name);
/// std::invalid_argument for an unknown name, one without a parameter, or a parameter that is not positive and finite.
Init init_named(const std::string& name, double parameter);
/// std::invalid_argument for a parameter out of range.
void check(const Init& init);
/// The standard deviation or bound; none where the layer's size decides.
std::optional<double> parameter(const Init& init);
std::vector<std::string> init_names();
const char* name(const Init& init);

/// He for the ReLU family, Xavier otherwise.
Init default_init(const Activation& activation);

/// Draws every W_l and sets b_l = 0. One init a layer, or one for all. The weights are drawn in double from
/// (seed, layer), so that networks of float and of double start from the same numbers.
template <class T>
void initialise(Network<T>& network, const std::vector<Init>& inits, std::uint64_t seed);

/// With the default of each layer's activation.
template <class T>
void initialise(Network<T>& network, std::uint64_t seed);

}  // namespace chainrule
