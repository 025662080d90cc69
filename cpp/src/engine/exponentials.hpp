#pragma once

#include "row_registers.hpp"
#include "vector_math.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

/// e_ij = e^{x_ij - shift_i}, with the largest x_ij as shift_i so that nothing overflows: of rows that may be larger
/// than registers, at most as many as a register has lanes. What there is once a row is worked out for all of them
/// together.
template <class V>
class Exponentials {
 public:
  using T = typename V::Scalar;

  CHAINRULE_INLINE Exponentials(Size rows, Size columns, Rows<const T> x) : columns_(columns), x_(x) {
    V top[V::size] = {};
    for (Size r = 0; r < rows; ++r) {
      top[r] = lowest();
      for (Size c = 0; c < columns; c += V::size) top[r] = max(top[r], at(r, c));
    }
    largest(top).store(shift_);
  }
  CHAINRULE_INLINE V shift(Size r) const { return V(shift_[r]); }
  /// The e_ij of one register; zeros in the lanes behind the last column.
  CHAINRULE_INLINE V power(Size r, Size c) const { return exp(at(r, c) - shift(r)); }

 private:
  static CHAINRULE_INLINE V lowest() { return V(-__builtin_inff()); }
  CHAINRULE_INLINE V at(Size r, Size c) const {
    return select(inside<V>(columns_, c), V::load(x_.row(r) + c), lowest());
  }

  Size columns_;
  Rows<const T> x_;
  T shift_[V::size];
};

}  // namespace chainrule::engine::CHAINRULE_ISA
