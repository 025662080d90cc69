#pragma once

#include <string>
#include <vector>

#include "chainrule/batch.hpp"
#include "chainrule/between_blocks.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"

namespace chainrule {

struct GradientCheck {
  struct Parameter {
    std::string name;
    double relative_error;  // ‖backprop - differences‖ / max(‖backprop‖, ‖differences‖); NaN where one is not finite
  };
  std::vector<Parameter> parameters;
  double max_relative_error;
  double backprop_seconds, differences_seconds;
  Index forward_passes;  // that the differences took: two a parameter
};

/// Backprop's gradient in T against central differences, (L(θ + ε e_i) - L(θ - ε e_i)) / 2ε, in double. `between` is
/// called between two parameters and may throw.
template <class T>
GradientCheck check_gradients(const Network<T>& network, const Loss& loss, const Samples<T>& samples, double eps = 1e-6,
                              const BetweenBlocks& between = {});

}  // namespace chainrule
