#pragma once

// Products with a sparse left factor: sums of a few rows out of many. Included once per instruction set.

#include <cstdint>

#include "kernels.hpp"
#include "vector.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

/// sum_j += Σ_k value_k rows(index_k, j), for so many registers of columns.
template <class V, int registers>
void gather_registers(Size count, const std::int32_t* index, const typename V::Scalar* value,
                      const typename V::Scalar* rows, Size stride, typename V::Scalar* sum) {
  V sums[registers];
  for (int v = 0; v < registers; ++v) sums[v] = V::load(sum + v * V::size);
  for (Size k = 0; k < count; ++k) {
    const auto* row = rows + index[k] * stride;
    const V factor = V(value[k]);
    for (int v = 0; v < registers; ++v) sums[v] = fma(factor, V::load(row + v * V::size), sums[v]);
  }
  for (int v = 0; v < registers; ++v) sums[v].store(sum + v * V::size);
}

template <class T, int... R>
constexpr auto gathers_of_registers(Ints<R...>) {
  using Gather = void (*)(Size count, const std::int32_t* index, const T* value, const T* rows, Size stride, T* sum);
  struct Table {
    Gather of[sizeof...(R) + 1];
  };
  return Table{{nullptr, gather_registers<FullVec<T>, R + 1>...}};
}

/// The same for any number of columns, whole registers of them.
template <class T>
void gather_rows(Size count, const std::int32_t* index, const T* value, Size columns, const T* rows, Size stride,
                 T* sum) {
  constexpr int most = vector_registers / 2;
  static constexpr auto gathers = gathers_of_registers<T>(Lanes<most>{});
  const Size registers = parts_of(columns, lanes<T>), passes = parts_of(registers, most);
  for (Size i = 0; i < passes; ++i) {
    const Range taken = part(registers, passes, i);
    const Size first = taken.begin * lanes<T>;
    gathers.of[taken.size()](count, index, value, rows + first, stride, sum + first);
  }
}

}  // namespace chainrule::engine::CHAINRULE_ISA
