#pragma once

#include <algorithm>
#include <cstdint>

#include "chainrule/inputs.hpp"
#include "chainrule/matrix.hpp"

namespace chainrule {

/// Targets of N samples: numbers, or class labels 0 … d_L - 1, which count as one-hot rows.
template <class T>
struct Targets {
  template <InMemory Expression>
  Targets(const Eigen::MatrixBase<Expression>& y)  // (N, t)
      : values(y.derived().data()), columns(y.cols()), stride(row_stride(y.derived())), rows(y.rows()) {}
  template <class Plain>
  Targets(Eigen::PlainObjectBase<Plain>&&) = delete;  // would not outlive the call
  Targets(const std::int64_t* labels, Index rows) : labels(labels), columns(1), stride(1), rows(rows) {}

  /// Those from sample `first` on.
  Targets from(Index first) const {
    Targets rest = *this;
    if (labels) rest.labels += first;
    if (values) rest.values += first * stride;
    rest.rows -= first;
    return rest;
  }

  /// Writes sample i as the loss sees it: a label as a one-hot row, a target with several quantiles once for each.
  void load(Index i, Index outputs, T* to) const {
    if (labels) {
      std::fill_n(to, outputs, T(0));
      to[labels[i]] = T(1);
      return;
    }
    const T* const from = values + i * stride;
    if (columns == outputs) {
      copy_row(from, outputs, to);
      return;
    }
    const Index repeat = outputs / columns;
    for (Index j = 0; j < outputs; ++j) to[j] = from[j / repeat];
  }

  const T* values = nullptr;
  const std::int64_t* labels = nullptr;
  Index columns, stride, rows;
};

/// Samples with their targets; memory of the caller's.
template <class T>
struct Samples {
  Inputs<T> X;                       // (N, d_0)
  Targets<T> y;                      // (N, t)
  const T* sample_weight = nullptr;  // (N,), or none

  Samples from(Index first) const {
    return {X.from(first), y.from(first), sample_weight ? sample_weight + first : nullptr};
  }
};

template <class T>
class SparseColumns;

/// The n samples of one step, or a part of them: those that `order` names, or the first n.
template <class T>
struct Batch {
  Samples<T> samples;
  Index size;
  const Index* order = nullptr;
  double whole_weight = 0;                    // Σ_i w_i of the whole step, if this is a part of it; else 0
  const SparseColumns<T>* columns = nullptr;  // all of this batch's, where they are known

  Index row(Index i) const { return order ? order[i] : i; }
  T weight(Index i) const { return samples.sample_weight ? samples.sample_weight[row(i)] : T(1); }
  /// Σ_i w_i over the step's samples, or their number without weights.
  double weight() const {
    if (whole_weight > 0) return whole_weight;
    if (!samples.sample_weight) return static_cast<double>(size);
    double total = 0;
    for (Index i = 0; i < size; ++i) total += static_cast<double>(weight(i));
    return total;
  }
  /// `rows` of them from the first-th on, as a part of a step whose samples weigh `whole`.
  Batch part(Index first, Index rows, double whole) const {
    return {order ? samples : samples.from(first), rows, order ? order + first : nullptr, whole};
  }
};

}  // namespace chainrule
