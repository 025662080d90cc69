#pragma once

#include <string>
#include <vector>

#include "chainrule/batch.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"

namespace chainrule {

struct GradientCheck {
  struct Parameter {
    std::string name;
    double relative_error;  // ‖backprop - differences‖ / max(‖backprop‖, ‖differences‖)
  };
  std::vector<Parameter> parameters;
  double max_relative_error;
  double backprop_seconds, differences_seconds;
  Index forward_passes;  // that the differences took: two a parameter
};

/// Backprop's gradient in T against central differences, (L(θ + h e_i) - L(θ - h e_i)) / 2h, in double.
template <class T>
GradientCheck check_gradients(const Network<T>& network, const Loss& loss, const Samples<T>& samples, double h = 1e-6);

}  // namespace chainrule
