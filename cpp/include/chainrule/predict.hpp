#pragma once

#include <type_traits>

#include "chainrule/batch.hpp"
#include "chainrule/between_blocks.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"

namespace chainrule {

/// a_L for the rows of X, without caching; safe from many threads at once.
template <class T>
void predict(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X /* (n, d_0) */,
             T* output /* (n, d_L), packed */, const BetweenBlocks& between = {});

/// Memory that so many rows take beside X and the results in these functions; `sparse` ones never become a matrix.
template <class T>
double predict_bytes(const Network<T>& network, Index rows, bool sparse);

/// The loss of each sample, without caching.
template <class T>
Vector<double> losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples,
                      const BetweenBlocks& between = {});

/// The loss, without caching: the weighted mean of those.
template <class T>
double evaluate(const Network<T>& network, const Loss& loss, const Samples<T>& samples,
                const BetweenBlocks& between = {});

}  // namespace chainrule
