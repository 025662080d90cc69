#pragma once

#include "kernels.hpp"
#include "vector.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

// Rows of matrices taken register by register.

/// Lanes of the register at column c that hold columns.
template <class V>
CHAINRULE_INLINE typename V::Mask inside(Size columns, Size c) {
  return V::first(static_cast<int>(columns - c < V::size ? columns - c : V::size));
}

/// Calls of(V()) with the registers V that rows of so many columns are taken by: with half as wide ones, if that is
/// enough for a row, some processors take half as long.
template <class T>
CHAINRULE_INLINE auto in_registers(Size columns, const auto& of) {
  if constexpr (HalfVec<T>::size < lanes<T>)
    if (columns <= HalfVec<T>::size) return of(HalfVec<T>());
  return of(FullVec<T>());
}

/// The largest magnitude in a part of a matrix whose rows are seen register by register; NaN if there is a NaN.
template <class V>
class Largest {
 public:
  CHAINRULE_INLINE explicit Largest(Size columns) : columns_(columns) {}
  CHAINRULE_INLINE void see(Size c, V x) {
    if (c + V::size < columns_)
      top_ = larger_magnitude(top_, x);
    else
      last_ = larger_magnitude(last_, x);
  }
  CHAINRULE_INLINE typename V::Scalar value() const {
    const auto in_last = inside<V>(columns_, (columns_ - 1) / V::size * V::size);
    const V top = larger_magnitude(top_, select(in_last, last_, V(0)));
    return V::fold(top, [](V x, V y) { return larger_magnitude(x, y); }).first_lane();
  }

 private:
  Size columns_;
  V top_ = V(0), last_ = V(0);  // of the rows' last registers, which may hold more than columns
};

template <class T>
T largest(Size rows, Size columns, Rows<const T> x) {
  return in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    Largest<V> largest(columns);
    for (Size r = 0; r < rows; ++r)
      for (Size c = 0; c < columns; c += V::size) largest.see(c, V::load(x.row(r) + c));
    return largest.value();
  });
}

}  // namespace chainrule::engine::CHAINRULE_ISA
