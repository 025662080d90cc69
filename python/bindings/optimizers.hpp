#pragma once

#include <chainrule/optimizer.hpp>
#include <stdexcept>
#include <variant>

namespace chainrule::bindings {

/// An optimizer before and after it has met a network, which decides whether it works in float or in double.
class AnyOptimizer {
 public:
  explicit AnyOptimizer(Rule rule) : rule_(std::move(rule)) { check(rule_); }

  const Rule& rule() const { return rule_; }
  void set_rule(Rule rule) {
    check(rule);
    rule_ = std::move(rule);
  }

  /// It with the state for networks of T; std::invalid_argument where it belongs to one of the other type.
  template <class T>
  Optimizer<T>& of() {
    if (std::holds_alternative<std::monostate>(state_)) state_.template emplace<Optimizer<T>>(rule_);
    auto* state = std::get_if<Optimizer<T>>(&state_);
    if (!state) throw std::invalid_argument("the optimizer belongs to another network; make a new one or reset() it");
    state->set_rule(rule_);
    return *state;
  }

  std::int64_t steps() const {
    return visit_state([](const auto& state) { return state.steps(); }, std::int64_t{0});
  }
  void reset() { state_ = std::monostate(); }

  template <class Visitor, class Default>
  Default visit_state(const Visitor& visitor, Default otherwise) const {
    if (const auto* state = std::get_if<Optimizer<float>>(&state_)) return visitor(*state);
    if (const auto* state = std::get_if<Optimizer<double>>(&state_)) return visitor(*state);
    return otherwise;
  }

 private:
  Rule rule_;
  std::variant<std::monostate, Optimizer<float>, Optimizer<double>> state_;
};

}  // namespace chainrule::bindings
