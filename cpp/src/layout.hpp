#pragma once

#include <algorithm>

#include "chainrule/network.hpp"
#include "engine/kernels.hpp"

namespace chainrule {

template <class T>
engine::Rows<T> rows_of(MatrixView<T> m, Index first = 0) {
  return {m.data() + first * m.outerStride(), m.outerStride()};
}

/// Numbers from one row to the next where `columns` and a column of ones are to fit: a whole number of the widest
/// registers, and not a multiple of 512 bytes (see Tape).
template <class T>
Index pitch(Index columns) {
  constexpr Index widest_register = 64 / static_cast<Index>(sizeof(T));
  const Index padded = (columns + widest_register) / widest_register * widest_register;
  return padded * static_cast<Index>(sizeof(T)) % 512 == 0 ? padded + widest_register : padded;
}

/// Whether the weights of all layers, rearranged for the kernels, stay in the caches of one processor. If not, they are
/// read as seldom as possible: layer by layer, cut by columns.
template <class T>
bool fits_packed(const Network<T>& network) {
  constexpr Index limit = (Index{2} << 20) / static_cast<Index>(sizeof(T));
  return network.parameter_count() <= limit;
}

}  // namespace chainrule
