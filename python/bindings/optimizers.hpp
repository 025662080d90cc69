#pragma once

#include <pybind11/pybind11.h>

#include <chainrule/optimizer.hpp>
#include <concepts>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "constructed.hpp"

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

  /// It with the state for networks of T; std::invalid_argument where it belongs to one of the other type. A fit that
  /// is at work with it sets the rule itself.
  template <class T>
  Optimizer<T>& of() {
    if (std::holds_alternative<std::monostate>(state_)) state_.template emplace<Optimizer<T>>(rule_);
    auto* state = std::get_if<Optimizer<T>>(&state_);
    if (!state) throw std::invalid_argument("the optimizer belongs to another network; make a new one or reset() it");
    if (uses_.count == 0) state->set_rule(rule_);
    return *state;
  }

  std::int64_t steps() const {
    return visit_state([](const auto& state) { return state.steps(); }, std::int64_t{0});
  }
  /// std::runtime_error while it is at work.
  void reset() {
    require_idle("reset()");
    state_ = std::monostate();
  }
  void require_idle(const char* what) const {
    if (uses_.count > 0)
      throw std::runtime_error("the optimizer is at work in a fit or a step; " + std::string(what) +
                               " is for before or after");
  }

  template <class Visitor, class Default>
  Default visit_state(const Visitor& visitor, Default otherwise) const {
    if (const auto* state = std::get_if<Optimizer<float>>(&state_)) return visitor(*state);
    if (const auto* state = std::get_if<Optimizer<double>>(&state_)) return visitor(*state);
    return otherwise;
  }

 private:
  template <class T>
  friend class AtWork;

  /// How many calls are at work with it; a copy starts with none.
  struct Uses {
    int count = 0;
    Uses() = default;
    Uses(const Uses&) {}
    Uses& operator=(const Uses&) { return *this; }
  };

  Rule rule_;
  std::variant<std::monostate, Optimizer<float>, Optimizer<double>> state_;
  Uses uses_;
};

/// An optimizer's state for networks of T while a call works with it. One that has not taken a step by then belongs to
/// no network. Made and destroyed under the interpreter's lock; `owner` is the optimizer's Python object.
template <class T>
class AtWork {
 public:
  AtWork(AnyOptimizer& optimizer, const Network<T>& network, pybind11::object owner = {})
      : owner_(std::move(owner)), optimizer_(optimizer), state_(optimizer.of<T>()) {
    ++optimizer_.uses_.count;
    try {
      state_.attach(network);
      if (optimizer_.uses_.count == 1) state_.next_constants();  // of settings that may have changed since
    } catch (...) {
      leave();
      throw;
    }
  }
  ~AtWork() { leave(); }
  AtWork(const AtWork&) = delete;

  Optimizer<T>& operator*() const { return state_; }

 private:
  void leave() {
    if (--optimizer_.uses_.count == 0 && state_.steps() == 0) optimizer_.reset();
  }

  pybind11::object owner_;
  AnyOptimizer& optimizer_;
  Optimizer<T>& state_;
};

}  // namespace chainrule::bindings

template <std::derived_from<chainrule::bindings::AnyOptimizer> T>
struct pybind11::detail::type_caster<T> : chainrule::bindings::ConstructedCaster<T> {};
