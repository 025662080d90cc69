#pragma once

#include "chainrule/matrix.hpp"

namespace chainrule {

/// Numbers from one row to the next where `columns` and a column of ones are to fit: a whole number of the widest
/// registers, and not a multiple of 512 bytes (see Tape).
template <class T>
Index pitch(Index columns) {
  constexpr Index widest_register = 64 / static_cast<Index>(sizeof(T));
  const Index padded = (columns + widest_register) / widest_register * widest_register;
  return padded * static_cast<Index>(sizeof(T)) % 512 == 0 ? padded + widest_register : padded;
}

}  // namespace chainrule
