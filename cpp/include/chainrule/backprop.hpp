#pragma once

#include <type_traits>

#include "chainrule/batch.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"
#include "chainrule/optimizer.hpp"
#include "chainrule/tape.hpp"

namespace chainrule {

/// What a step makes smaller: loss_weight · L + l2/2 Σ_l ‖W_l‖² / Σ_i w_i. Biases are not penalised.
struct Objective {
  double loss_weight = 1, l2 = 0;
};

/// l2/2 Σ_l ‖W_l‖²
template <class T>
double penalty(const Network<T>& network, const Objective& objective);

/// a_0 = X;  z_l = a_{l-1} W_l + b_l;  a_l = σ_l(z_l)  for l = 1 … L. Caches all on the tape.
template <class T>
void forward(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X /* (n, d_0) */, Tape<T>& tape);

/// After `forward`: the loss, and on the tape
///   δ_L = dL/dz_L;  δ_{l-1} = (δ_l W_lᵀ) ⊙ σ'_{l-1}(z_{l-1})  for l = L … 2,
/// and in `gradient`, laid out like θ,
///   dL/dW_l = a_{l-1}ᵀ δ_l;  dL/db_l = Σ_rows δ_l.
template <class T>
double backward(const Network<T>& network, const Loss& loss, const Targets<T>& y /* (n, t) */,
                const T* sample_weight /* (n,), or nullptr */, Tape<T>& tape, VectorView<T> gradient);

/// `backward` from dL/da_L, for a loss of the caller's own. Returns dL/dX (n, d_0).
template <class T>
Matrix<T> pullback(const Network<T>& network, const MatrixArgument<T>& grad_output /* (n, d_L) */, Tape<T>& tape,
                   VectorView<T> gradient /* laid out like θ */);

/// One training step on a batch: the loss before the update. In two sweeps:
///
/// 1. By rows. The batch is cut into row chunks; each goes forward through all layers and back to δ_1, without meeting
///    another: rows are independent. A large network goes layer by layer instead, each on all threads.
/// 2. By weights. [dW_l; db_l] is cut into tiles; each is summed over the whole batch and given to the optimizer at
///    once, so that the gradient is never stored.
///
/// No sum depends on how the work is cut among threads: the result is the same to the bit for any number of them.
///
/// A batch of which `rows_at_a_time` are fewer than all goes through the first sweep and the second part by part, which
/// add up to a gradient that is stored. The tape needs room for one part, and is left with the last.
///
/// Where the loss or a gradient is not finite, nothing is updated and the result is not finite.
///
/// `sums`, unless null, become those of W_1, b_1, W_2, …: taken from each tile while it is at hand. On the tape a_0 …
/// a_{L-1} and δ_1 … δ_L are left, and with `sums` a_L.
template <class T>
double step(Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape, Optimizer<T>& optimizer,
            const Objective& objective = {}, std::vector<TensorSums>* sums = nullptr);

/// The first sweep of `step`: the loss L, and a_0 … a_L and δ_1 … δ_L on the tape.
template <class T>
double deltas(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
              const Objective& objective = {});

/// The first sweep of `step` and the objective's whole gradient, for those who want to see or change it before they
/// update; of a large batch part by part, like `step`. Returns the loss L. With `add` the gradient is added to what is
/// there: the parts of a batch make up the whole.
template <class T>
double gradient(const Network<T>& network, const Loss& loss, const Batch<T>& batch, Tape<T>& tape,
                VectorView<T> gradient /* laid out like θ */, const Objective& objective = {}, bool add = false);

/// Adds the gradient of l2/2 Σ_l ‖W_l‖² / weight.
template <class T>
void add_penalty_gradient(const Network<T>& network, const Objective& objective, double weight,
                          VectorView<T> gradient /* laid out like θ */);

}  // namespace chainrule
