#pragma once

#include <numeric>
#include <vector>

#include "chainrule/batch.hpp"
#include "chainrule/between_blocks.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/ranks.hpp"
#include "loss_mean.hpp"

namespace chainrule {

/// The loss of the validation samples of all ranks, added up sample by sample.
template <class T>
double validate_in_order(const Network<T>& network, const Loss& loss, const Samples<T>& validation, Ranks& ranks,
                         const BetweenBlocks& between) {
  const Index n = validation.X.rows();
  std::vector<double> counts(static_cast<std::size_t>(ranks.size));
  counts[static_cast<std::size_t>(ranks.rank)] = static_cast<double>(n);
  ranks.sum(counts.data(), ranks.size);
  const double before = std::accumulate(counts.begin(), counts.begin() + ranks.rank, 0.0);
  Vector<double> terms =
      Vector<double>::Zero(2 * static_cast<Index>(std::accumulate(counts.begin(), counts.end(), 0.0)));
  const Vector<double> of_mine = losses(network, loss, validation, between);
  const Batch<T> batch{validation, n};
  for (Index i = 0; i < n; ++i) {
    const Index place = 2 * (static_cast<Index>(before) + i);
    terms[place] = weighted(batch.weight(i), of_mine[i]);
    terms[place + 1] = static_cast<double>(batch.weight(i));
  }
  ranks.sum(terms.data(), terms.size());
  double total = 0, weight = 0;
  for (Index i = 0; i < terms.size(); i += 2) {
    total += terms[i];
    weight += terms[i + 1];
  }
  return total / weight;
}

/// The loss of the validation samples of all ranks.
template <class T>
double validate(const Network<T>& network, const Loss& loss, const Samples<T>& validation, Ranks* ranks,
                const BetweenBlocks& between) {
  if (ranks && ranks->reproducible) return validate_in_order(network, loss, validation, *ranks, between);
  if (!ranks) return evaluate(network, loss, validation, between);
  const double weight = Batch<T>{validation, validation.X.rows()}.weight();
  double sums[] = {weight > 0 ? evaluate(network, loss, validation, between) * weight : 0, weight};
  ranks->sum(sums, 2);
  return sums[0] / sums[1];
}

}  // namespace chainrule
