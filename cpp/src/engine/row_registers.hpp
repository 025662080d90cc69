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

/// Numbers of a row, from column c on, as a register.
template <class V>
struct OfRow {
  using T = typename V::Scalar;
  Size r, c;
  CHAINRULE_INLINE V load(Rows<const T> x) const { return V::load(x.row(r) + c); }
  CHAINRULE_INLINE void store(V numbers, Rows<T> x) const { numbers.store(x.row(r) + c); }
};

/// The first numbers of `count` rows from row r on, as a register, whose other lanes are zero.
template <class V>
struct OfColumn {
  using T = typename V::Scalar;
  Size r, count;
  CHAINRULE_INLINE V load(Rows<const T> x) const {
    if (count == V::size) return gathered(x.from(r), Lanes<V::size>{});
    T numbers[V::size] = {};
    for (Size i = 0; i < count; ++i) numbers[i] = *x.row(r + i);
    return V::load(numbers);
  }
  CHAINRULE_INLINE void store(V numbers, Rows<T> x) const {
    if (count == V::size) return scatter(numbers, x.from(r), Lanes<V::size>{});
    T lanes[V::size];
    numbers.store(lanes);
    for (Size i = 0; i < count; ++i) *x.row(r + i) = lanes[i];
  }

 private:
  template <int... I>
  static CHAINRULE_INLINE V gathered(Rows<const T> x, Ints<I...>) {
    return {typename V::Native{*x.row(I)...}};
  }
  template <int... I>
  static CHAINRULE_INLINE void scatter(V numbers, Rows<T> x, Ints<I...>) {
    ((*x.row(I) = numbers.v[I]), ...);
  }
};

/// Calls of(OfColumn) for a column, by registers full of rows.
template <class V>
CHAINRULE_INLINE void over_column(Size rows, const auto& of) {
  for (Size r = 0; r < rows; r += V::size) of(OfColumn<V>{r, rows - r < V::size ? rows - r : V::size});
}

/// Calls of(OfRow) or, for a single column, of(OfColumn) for a whole matrix. Returns the largest magnitude of what
/// comes of its numbers, or NaN if there is one.
template <class T>
CHAINRULE_INLINE T largest_of(Size rows, Size columns, const auto& of) {
  if (columns == 1) {
    using V = FullVec<T>;
    V top = V(0);
    over_column<V>(rows, [&](OfColumn<V> at) __attribute__((always_inline)) {
      top = larger_magnitude(top, select(V::first(static_cast<int>(at.count)), of(at), V(0)));
    });
    return V::fold(top, [](V x, V y) { return larger_magnitude(x, y); }).first_lane();
  }
  return in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    V top = V(0), last = V(0);  // `last` of the rows' last registers, which may hold more than columns
    for (Size r = 0; r < rows; ++r)
      for (Size c = 0; c < columns; c += V::size) {
        const V numbers = of(OfRow<V>{r, c});
        if (c + V::size < columns)
          top = larger_magnitude(top, numbers);
        else
          last = larger_magnitude(last, numbers);
      }
    const auto in_last = inside<V>(columns, (columns - 1) / V::size * V::size);
    top = larger_magnitude(top, select(in_last, last, V(0)));
    return V::fold(top, [](V x, V y) { return larger_magnitude(x, y); }).first_lane();
  });
}

template <class T>
T largest(Size rows, Size columns, Rows<const T> x) {
  return largest_of<T>(rows, columns, [&](auto at) __attribute__((always_inline)) { return at.load(x); });
}

}  // namespace chainrule::engine::CHAINRULE_ISA
