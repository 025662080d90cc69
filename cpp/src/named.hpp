#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace chainrule {

// The variants of activation.hpp, loss.hpp, rule.hpp, … as lists of names.

template <class Variant>
struct Named;

template <class... Type>
struct Named<std::variant<Type...>> {
  using Variant = std::variant<Type...>;

  static std::vector<std::string> names() { return {Type::name...}; }

  /// The default of the type of that name.
  static Variant make(const char* noun, const std::string& name) {
    Variant result;
    if (((name == Type::name && (result = Type{}, true)) || ...)) return result;
    std::string known;
    for (const std::string& each : names()) known += (known.empty() ? "" : ", ") + each;
    throw std::invalid_argument("unknown " + std::string(noun) + " '" + name + "'; known: " + known);
  }
};

template <class... Type>
const char* name_of(const std::variant<Type...>& value) {
  return std::visit([](const auto& one) { return one.name; }, value);
}

}  // namespace chainrule
