#pragma once

#include <vector>

#include "chainrule/batch.hpp"
#include "chainrule/loss.hpp"

namespace chainrule {

/// The columns' parameters of a loss: δ of Huber's, τ of the quantiles.
template <class T>
void fill_loss_parameters(const Loss& loss, Index outputs, T* to) {
  const std::vector<double> values = parameters(loss);
  if (values.empty()) return;
  for (Index j = 0; j < outputs; ++j) to[j] = static_cast<T>(values[static_cast<std::size_t>(j) % values.size()]);
}

/// What a mean divides by: the sum of the samples' weights, times the outputs.
inline double mean_divisor(const Loss& loss, Index outputs, double weight) {
  return sum_over_outputs(loss) ? weight : weight * static_cast<double>(outputs);
}

/// w ℓ; a sample without weight says nothing, whatever its loss is.
template <class T>
double weighted(T weight, double loss) {
  return weight == 0 ? 0 : static_cast<double>(weight) * loss;
}

/// Σ_i w_i ℓ_i / divisor
template <class T>
double weighted_mean(const Batch<T>& batch, const double* row_loss, double divisor) {
  double total = 0;
  for (Index r = 0; r < batch.size; ++r) total += weighted(batch.weight(r), row_loss[r]);
  return total / divisor;
}

}  // namespace chainrule
