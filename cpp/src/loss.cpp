#include "chainrule/loss.hpp"

#include <cmath>
#include <stdexcept>

#include "named.hpp"
#include "number.hpp"

namespace chainrule {

bool Huber::set_parameters(const std::vector<double>& given) {
  if (given.size() == 1) delta = given[0];
  return given.size() == 1;
}

void Huber::check() const { require(delta > 0, "delta", delta, "a finite number > 0"); }

bool Quantile::set_parameters(const std::vector<double>& given) {
  quantiles = given;
  return true;
}

void Quantile::check() const {
  if (quantiles.empty()) throw std::invalid_argument("quantiles is empty; expected at least one");
  for (const double tau : quantiles)
    if (!(tau > 0 && tau < 1))
      throw std::invalid_argument("quantiles holds " + text_of(tau) + "; expected numbers between 0 and 1");
}

Loss loss_named(const std::string& name, const std::vector<double>& parameters) {
  Loss result = Named<Loss>::make("loss", name);
  if (parameters.empty()) return result;
  if (!std::visit([&](auto& l) { return l.set_parameters(parameters); }, result))
    throw std::invalid_argument("loss '" + name + "' does not take " + std::to_string(parameters.size()) +
                                (parameters.size() == 1 ? " parameter" : " parameters"));
  check(result);
  return result;
}

void check(const Loss& loss) {
  std::visit([](const auto& l) { l.check(); }, loss);
}

std::vector<std::string> loss_names() { return Named<Loss>::names(); }

const char* name(const Loss& loss) { return name_of(loss); }

std::vector<double> parameters(const Loss& loss) {
  return std::visit([](const auto& l) { return l.parameters(); }, loss);
}

bool from_logits(const Loss& loss) {
  return std::visit([](const auto& l) { return l.from_logits; }, loss);
}

bool takes_labels(const Loss& loss) {
  return std::visit([](const auto& l) { return l.takes_labels; }, loss);
}

bool sum_over_outputs(const Loss& loss) {
  return std::visit([](const auto& l) { return l.sum_over_outputs; }, loss);
}

void check_output(const Loss& loss, const Activation& output, std::ptrdiff_t outputs) {
  check(loss);
  const std::string given = name(output), fitting = default_output(loss);
  if (from_logits(loss) && given != fitting && given != "identity")
    throw std::invalid_argument("output_activation is '" + given + "'; loss '" + name(loss) + "' goes with '" +
                                fitting + "', or with 'identity' for a network that gives logits");
  if (const std::ptrdiff_t each = outputs_per_target(loss); outputs % each != 0)
    throw std::invalid_argument("layer_sizes ends in " + std::to_string(outputs) +
                                "; expected a multiple of the number of quantiles, " + std::to_string(each));
}

const char* default_output(const Loss& loss) {
  return std::visit([](const auto& l) { return l.default_output; }, loss);
}

long outputs_per_target(const Loss& loss) {
  return std::visit([](const auto& l) { return l.outputs_per_target(); }, loss);
}

}  // namespace chainrule
