#pragma once

#include <algorithm>
#include <cstdint>

#include "chainrule/inputs.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"
#include "chainrule/optimizer.hpp"
#include "chainrule/tape.hpp"

namespace chainrule {

/// Targets of N samples: numbers, or class labels 0 … d_L - 1 for the cross-entropy.
template <class T>
struct Targets {
  /// Of any Eigen expression that is memory, by rows or one column: never of what Eigen would have to copy.
  template <class Expression>
    requires((Expression::Flags & Eigen::DirectAccessBit) != 0 &&
             (Expression::ColsAtCompileTime == 1 ||
              ((Expression::Flags & Eigen::RowMajorBit) != 0 && int{Expression::InnerStrideAtCompileTime} == 1)))
  Targets(const Eigen::MatrixBase<Expression>& expression)  // (N, t)
      : values(expression.derived().data()),
        columns(expression.cols()),
        stride(Expression::ColsAtCompileTime == 1 ? expression.derived().innerStride()
                                                  : expression.derived().outerStride()),
        rows(expression.rows()) {}
  Targets(Matrix<T>&&) = delete;  // would not outlive the call
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
    const Index repeat = outputs / columns;
    if (repeat == 1) {
      std::copy_n(from, outputs, to);
      return;
    }
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
  double whole_weight = 0;                    // of the step's samples, where these are a part of them
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
};

/// What a step makes smaller: loss_weight · L + l2/2 Σ_l ‖W_l‖² / Σ_i w_i. The biases are free.
struct Objective {
  double loss_weight = 1, l2 = 0;
};

/// l2/2 Σ_l ‖W_l‖²
template <class T>
double penalty(const Network<T>& network, const Objective& objective);

/// a_0 = X;  z_l = a_{l-1} W_l + b_l;  a_l = σ_l(z_l)  for l = 1 … L. Caches all on the tape.
template <class T>
void forward(const Network<T>& network, const MatrixArgument<T>& X /* (n, d_0) */, Tape<T>& tape);
template <class T>
void forward(const Network<T>& network, const SparseRows<T>& X /* (n, d_0) */, Tape<T>& tape);

/// After `forward`: the loss, and on the tape
///   δ_L = dL/dz_L;  δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}(z_{l-1})  for l = L … 2,
/// and in `gradient`, laid out like θ,
///   dL/dW_l = a_{l-1}ᵀ δ_l;  dL/db_l = Σ_rows δ_l.
template <class T>
double backward(const Network<T>& network, const Loss& loss, const Targets<T>& y, const T* sample_weight, Tape<T>& tape,
                VectorView<T> gradient);

/// `backward` from dL/da_L, for a loss of the caller's own. Returns dL/dX (n, d_0).
template <class T>
Matrix<T> pullback(const Network<T>& network, const MatrixArgument<T>& grad_output /* (n, d_L) */, Tape<T>& tape,
                   VectorView<T> gradient);

/// a_L for the rows of X, without caching; safe from many threads at once.
template <class T>
void predict(const Network<T>& network, const MatrixArgument<T>& X /* (n, d_0) */, T* output /* (n, d_L), packed */);
template <class T>
void predict(const Network<T>& network, const SparseRows<T>& X /* (n, d_0) */, T* output /* (n, d_L), packed */);

/// The loss of each sample, without caching.
template <class T>
Vector<double> losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples);

/// The loss, without caching: the weighted mean of those.
template <class T>
double evaluate(const Network<T>& network, const Loss& loss, const Samples<T>& samples);

/// One training step on a batch: the loss before the update. In two sweeps:
///
/// 1. By rows. The batch is cut into row chunks; each goes forward through all layers and back to δ_1, without meeting
///    another: rows are independent.
/// 2. By weights. [dW_l; db_l] is cut into tiles; each is summed over the whole batch and given to the optimizer at
///    once, so that the gradient is never stored.
///
/// No sum depends on how the work is cut: the result is the same to the bit for any number of threads.
///
/// Where the loss or a gradient is not finite, nothing is updated and the result is not finite.
///
/// `sums`, unless null, become those of W_1, b_1, W_2, …: taken from each tile while it is at hand.
template <class T>
double step(Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape, Optimizer<T>& optimizer,
            const Objective& objective = {}, std::vector<TensorSums>* sums = nullptr);

/// The first sweep of `step`: the loss L, and a_0 … a_L and δ_1 … δ_L on the tape.
template <class T>
double deltas(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
              const Objective& objective = {});

/// The first sweep of `step` and the objective's whole gradient, for those who want to see or change it before they
/// update. Returns the loss L. With `add` the gradient is added to what is there: the parts of a batch make up the
/// whole.
template <class T>
double gradient(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
                VectorView<T> gradient, const Objective& objective = {}, bool add = false);

/// Adds the gradient of l2/2 Σ_l ‖W_l‖² / weight.
template <class T>
void add_penalty_gradient(const Network<T>& network, const Objective& objective, double weight, VectorView<T> gradient);

}  // namespace chainrule
