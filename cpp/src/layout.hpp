#pragma once

#include <algorithm>

#include "chainrule/network.hpp"
#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"

namespace chainrule {

using engine::far_tiles;
using engine::Kernels;
using engine::kernels;
using engine::Panels;
using engine::parallel;
using engine::part;
using engine::parts_of;
using engine::Range;
using engine::Rows;
using engine::strip_columns;
using engine::threads_for;

template <class T>
Rows<T> rows_of(MatrixView<T> m, Index first = 0) {
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

/// Numbers that (rows, columns) take as the kernels' panels.
template <class T>
Index panels_size(Index rows, Index columns) {
  return checked_product(rows, parts_of(columns, kernels<T>().panel) * kernels<T>().panel);
}

/// Memory of this thread's, for the use of one function at a time.
template <class T>
T* workspace(Index size) {
  thread_local Buffer<T> memory;
  if (memory.size() < size) {
    memory = Buffer<T>();  // or both would take room for a moment
    memory = Buffer<T>(size);
  }
  return memory.data();
}

}  // namespace chainrule
