#pragma once

#include "chainrule/matrix.hpp"

namespace chainrule {

/// What is added up over the entries of a gradient g.
struct GradientSums {
  double absolute = 0, squares = 0, largest = 0;  // Σ|g|, Σg² and max|g| of the finite entries
  double far_norm = 0;                            // ‖g‖ of those parts that `squares` leaves out: out of its range
  Index zeros = 0, nan = 0, inf = 0;              // how many

  void operator+=(const GradientSums& other);
};

/// One parameter tensor in one step.
struct TensorSums {
  GradientSums gradient;
  double change_squares = 0, theta_squares = 0;  // Σ(Δθ)², and Σθ² before the update

  void operator+=(const TensorSums& other);
};

}  // namespace chainrule
