#pragma once

// Products with a sparse left factor: sums of a few rows out of many. Included once per instruction set.

#include <cstdint>

#include "kernels.hpp"
#include "vector.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

/// A function of columns for so many registers of them at a time; what is left over goes to the one for fewer.
template <int registers, class T>
void gather_columns(Size count, const std::int32_t* index, const T* value, Size columns, const T* rows, Size stride,
                    T* sum) {
  using V = FullVec<T>;
  for (; columns > (registers - 1) * V::size;
       columns -= registers * V::size, rows += registers * V::size, sum += registers * V::size) {
    V sums[registers];
    for (int v = 0; v < registers; ++v) sums[v] = V::load(sum + v * V::size);
    for (Size k = 0; k < count; ++k) {
      const T* row = rows + index[k] * stride;
      const V factor = V(value[k]);
      for (int v = 0; v < registers; ++v) sums[v] = fma(factor, V::load(row + v * V::size), sums[v]);
    }
    for (int v = 0; v < registers; ++v) sums[v].store(sum + v * V::size);
  }
  if constexpr (registers > 1) gather_columns<registers - 1>(count, index, value, columns, rows, stride, sum);
}

/// sum_j += Σ_k value_k rows(index_k, j)
template <class T>
void gather_rows(Size count, const std::int32_t* index, const T* value, Size columns, const T* rows, Size stride,
                 T* sum) {
  gather_columns<8>(count, index, value, columns, rows, stride, sum);
}

template <int registers, class T>
void scatter_columns(Size count, const std::int32_t* index, const T* value, Size first, Size columns, const T* row,
                     Rows<T> sums) {
  using V = FullVec<T>;
  for (; columns > (registers - 1) * V::size;
       columns -= registers * V::size, row += registers * V::size, sums.data += registers * V::size) {
    V numbers[registers];
    for (int v = 0; v < registers; ++v) numbers[v] = V::load(row + v * V::size);
    for (Size k = 0; k < count; ++k) {
      T* to = sums.row(index[k] - first);
      const V factor = V(value[k]);
      for (int v = 0; v < registers; ++v) fma(factor, numbers[v], V::load(to + v * V::size)).store(to + v * V::size);
    }
  }
  if constexpr (registers > 1) scatter_columns<registers - 1>(count, index, value, first, columns, row, sums);
}

/// sums(index_k - first, j) += value_k row_j
template <class T>
void scatter_row(Size count, const std::int32_t* index, const T* value, Size first, Size columns, const T* row,
                 Rows<T> sums) {
  scatter_columns<8>(count, index, value, first, columns, row, sums);
}

}  // namespace chainrule::engine::CHAINRULE_ISA
