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
  gather_columns<vector_registers / 2>(count, index, value, columns, rows, stride, sum);
}

}  // namespace chainrule::engine::CHAINRULE_ISA
