#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "chainrule/backprop.hpp"
#include "chainrule/ranks.hpp"

namespace chainrule {

/// Where numbers first stopped being finite, in the order in which a step computes them: all before it were finite.
struct NonFinite {
  enum class Cause { bad_input, bad_weight, overflow };

  Cause cause = Cause::overflow;
  // "X", "layers.0.weight", "layers.0.bias", "z", "a", "y", "loss", "delta", "layers.0.weight gradient", …
  std::string tensor = "loss";
  Index layer = 0;  // l, from 1; 0 is the input
  Index row = 0;    // of the samples, or of a parameter or its gradient
  Index column = 0;
  double value = 0;
  double loss = 0;
  Index epoch = 0, batch = 0, step = 0;  // of a fit, from 1: the batch of the epoch, the step over all epochs

  bool is_of_sample() const { return !tensor.starts_with("layers."); }
};

/// Takes the step's forward and backward pass once more, with everything kept, and looks where it goes wrong. Rows are
/// counted from `first`. Nothing where all is finite.
template <class T>
std::optional<NonFinite> find_non_finite(const Network<T>& network, const Loss& loss, const Batch<T>& batch,
                                         const Objective& objective = {}, const std::optional<MaskDraw>& draw = {},
                                         Index first = 0);

/// The finding of the lowest rank that has one.
std::optional<NonFinite> found_by_any(const std::optional<NonFinite>& found, Ranks& ranks);

/// The parameters are those before the step.
struct NonFiniteError : std::runtime_error {
  explicit NonFiniteError(NonFinite where);
  NonFinite where;
};

}  // namespace chainrule
