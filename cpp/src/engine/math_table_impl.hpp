#pragma once

// The table of math_table.hpp for the instruction set CHAINRULE_ISA. Only the translation unit of that set includes
// this file.

#include "math_table.hpp"
#include "vector_math.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

/// y[i] = f(x[i]), by full registers; F is a type, so that the call is inlined into the loop.
template <class T, class F>
void map_array(const T* x, T* y, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t step = lanes<T>;
  std::ptrdiff_t i = 0;
  for (; i + step <= n; i += step) F::apply(FullVec<T>::load(x + i)).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) F::apply(FullVec<T>::load(x + i, rest)).store(y + i, rest);
}

#define CHAINRULE_MATH_FUNCTION(name)      \
  struct name##_function {                 \
    template <class V>                     \
    static CHAINRULE_INLINE V apply(V x) { \
      return name(x);                      \
    }                                      \
  };
CHAINRULE_MATH_FUNCTION(exp)
CHAINRULE_MATH_FUNCTION(expm1)
CHAINRULE_MATH_FUNCTION(log)
CHAINRULE_MATH_FUNCTION(tanh)
CHAINRULE_MATH_FUNCTION(sigmoid)
CHAINRULE_MATH_FUNCTION(softplus)
CHAINRULE_MATH_FUNCTION(normal_cdf)
CHAINRULE_MATH_FUNCTION(normal_density)
#undef CHAINRULE_MATH_FUNCTION

/// The functions of vector_math.hpp on arrays, compiled for this instruction set.
template <class T>
constexpr MathTable<T> make_math_table() {
  return {&map_array<T, exp_function>,        &map_array<T, expm1_function>,         &map_array<T, log_function>,
          &map_array<T, tanh_function>,       &map_array<T, sigmoid_function>,       &map_array<T, softplus_function>,
          &map_array<T, normal_cdf_function>, &map_array<T, normal_density_function>};
}

}  // namespace chainrule::engine::CHAINRULE_ISA
