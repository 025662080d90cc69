#pragma once

#include <type_traits>

#include "chainrule/batch.hpp"
#include "chainrule/between_blocks.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"
#include "chainrule/tape.hpp"

namespace chainrule {

// Derivatives beside the gradient of the loss. Rows go through the tape in blocks of no more than it holds, so that
// memory is bounded however many there are. They are those of the network as it predicts: nothing drops out. Results
// are packed by rows, and may not lie where an argument does.

/// da_L/dX, row by row: from the outputs back, or from the inputs forth where those are fewer.
template <class T>
void jacobian(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X /* (n, d_0) */, Tape<T>& tape,
              T* to /* (n, d_L, d_0) */, const BetweenBlocks& between = {});

/// da_{L,output}/dX, row by row.
template <class T>
void input_gradient(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X /* (n, d_0) */, Index output,
                    Tape<T>& tape, T* to /* (n, d_0) */, const BetweenBlocks& between = {});

/// (da_L/dX) V, row by row: with R for the derivative along V,
///   Ra_0 = V;  Rz_l = Ra_{l-1} W_l;  Ra_l = Rz_l ⊙ σ'_l(z_l)
template <class T>
void jvp(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X /* (n, d_0) */,
         const MatrixArgument<T>& V /* (n, d_0) */, Tape<T>& tape, T* to /* (n, d_L) */,
         const BetweenBlocks& between = {});

/// The gradient of each sample's own loss, laid out like θ: a_{l-1,i}ᵀ δ_{l,i}. Weights of samples do not count.
template <class T>
void per_sample_gradients(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape,
                          T* to /* (n, |θ|) */, const BetweenBlocks& between = {});

/// Their norms without them: ‖g_i‖² = Σ_l (|a_{l-1,i}|² + 1) |δ_{l,i}|².  Goodfellow 2015
template <class T>
void per_sample_gradient_norms(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape,
                               T* to /* (n,) */, const BetweenBlocks& between = {});

/// H v, with the Hessian H of the loss on the samples: exactly, by the derivative R along v of the whole backward pass.
///   Rz_l = Ra_{l-1} W_l + [a_{l-1} 1] v_l;  Ra_l = Rz_l ⊙ σ'_l;  Rδ_L = d(dL/dz_L)
///   Rδ_{l-1} = (Rδ_l W_lᵀ + δ_l v_lᵀ) ⊙ σ'_{l-1} + (δ_l W_lᵀ) ⊙ σ''_{l-1} ⊙ Rz_{l-1}
///   R[dW_l; db_l] = [Ra_{l-1} 0]ᵀ δ_l + [a_{l-1} 1]ᵀ Rδ_l
/// What R makes of everything on `tape` stands on `R`, which has its capacity and keeps pre-activations.  Pearlmutter
/// 1994
template <class T>
void hvp(const Network<T>& network, const Loss& loss, const Samples<T>& samples,
         ConstVectorView<T> v /* laid out like θ */, Tape<T>& tape, Tape<T>& R, VectorView<T> to /* likewise */,
         const BetweenBlocks& between = {});

}  // namespace chainrule
