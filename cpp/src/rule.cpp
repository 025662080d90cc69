#include "chainrule/rule.hpp"

#include <cmath>
#include <stdexcept>

#include "named.hpp"
#include "number.hpp"

namespace chainrule {

UpdateConstants SGD::constants(std::int64_t) const {
  const double of_sum = nesterov ? momentum : 1.0;
  return {weight_decay, momentum, velocity ? lr : 1.0, nesterov ? lr : 0.0, velocity ? of_sum : lr * of_sum};
}

UpdateConstants RMSprop::constants(std::int64_t) const {
  return {weight_decay, alpha, 1 - alpha, momentum, centered ? 1.0 : 0.0, eps, lr};
}

UpdateConstants Adam::constants(std::int64_t t) const {
  const auto steps = static_cast<double>(t);
  const double correction = std::sqrt(1 - std::pow(beta2, steps));  // √v̂ = √v / correction
  return {weight_decay,
          1,
          1 - beta1,
          beta2,
          1 - beta2,
          (eps_hat ? lr * correction : lr) / (1 - std::pow(beta1, steps)),
          eps_hat ? 1.0 : 1 / correction,
          eps};
}

UpdateConstants AdamW::constants(std::int64_t t) const {
  UpdateConstants c = Adam::constants(t);
  c[0] = 0;
  c[1] = 1 - lr * weight_decay;
  return c;
}

Rule rule_named(const std::string& name) { return Named<Rule>::make("optimizer", name); }

std::vector<std::string> rule_names() { return Named<Rule>::names(); }

const char* name(const Rule& rule) { return name_of(rule); }

double learning_rate(const Rule& rule) {
  return std::visit([](const auto& r) { return r.lr; }, rule);
}

static void check_at_least_zero(const char* what, double value) {
  require(value >= 0, what, value, "a finite number >= 0");
}

static void check_share(const char* what, double value) {
  require(value >= 0 && value < 1, what, value, "a number in [0, 1)");
}

void set_learning_rate(Rule& rule, double lr) {
  check_at_least_zero("lr", lr);
  std::visit([lr](auto& r) { r.lr = lr; }, rule);
}

void check(const Rule& rule) {
  std::visit([](const auto& r) { r.check(); }, rule);
}

void SGD::check() const {
  check_at_least_zero("lr", lr);
  check_at_least_zero("momentum", momentum);
  check_at_least_zero("weight_decay", weight_decay);
  if (nesterov && momentum == 0)
    throw std::invalid_argument("nesterov is True with momentum 0; Nesterov's rule needs a momentum > 0");
}

void RMSprop::check() const {
  check_at_least_zero("lr", lr);
  check_share("alpha", alpha);
  check_at_least_zero("eps", eps);
  check_at_least_zero("weight_decay", weight_decay);
  check_at_least_zero("momentum", momentum);
}

void Adam::check() const {
  check_at_least_zero("lr", lr);
  check_share("betas[0]", beta1);
  check_share("betas[1]", beta2);
  check_at_least_zero("eps", eps);
  check_at_least_zero("weight_decay", weight_decay);
}

}  // namespace chainrule
