#include "chainrule/activation.hpp"

#include <cmath>
#include <stdexcept>
#include <type_traits>

#include "named.hpp"
#include "number.hpp"

namespace chainrule {

Activation activation_named(const std::string& name) { return Named<Activation>::make("activation", name); }

Activation activation_named(const std::string& name, double parameter) {
  Activation result = activation_named(name);
  const char* what = parameter_name(result);
  if (!what) throw std::invalid_argument("activation '" + name + "' has no parameter");
  std::visit([parameter](auto& a) { a.set_parameter(parameter); }, result);
  check(result);
  return result;
}

void check(const Activation& activation) {
  std::visit(
      [](const auto& a) {
        if constexpr (std::decay_t<decltype(a)>::parameter_name != nullptr)
          require(a.takes(a.parameter()), a.parameter_name, a.parameter(),
                  std::string("a finite number ") + a.parameter_range);
      },
      activation);
}

std::vector<std::string> activation_names() { return Named<Activation>::names(); }

const char* name(const Activation& activation) { return name_of(activation); }

const char* parameter_name(const Activation& activation) {
  return std::visit([](const auto& a) { return a.parameter_name; }, activation);
}

double parameter(const Activation& activation) {
  return std::visit([](const auto& a) { return a.parameter(); }, activation);
}

bool needs_z(const Activation& activation) {
  return std::visit([](const auto& a) { return a.needs_z; }, activation);
}

bool output_only(const Activation& activation) {
  return std::visit([](const auto& a) { return a.output_only; }, activation);
}

bool rectifier(const Activation& activation) {
  return std::visit([](const auto& a) { return a.rectifier; }, activation);
}

bool piecewise_linear(const Activation& activation) {
  return std::visit([](const auto& a) { return a.piecewise_linear; }, activation);
}

bool over_row(const Activation& activation) {
  return std::visit([](const auto& a) { return a.over_row; }, activation);
}

bool operator==(const Activation& left, const Activation& right) {
  return left.index() == right.index() && parameter(left) == parameter(right);
}

}  // namespace chainrule
