// Compiled once per instruction set, with CHAINRULE_ISA naming it. See kernels.hpp.

#include "kernels.hpp"

#include "activation_kernels.hpp"
#include "gemm.hpp"
#include "loss_kernels.hpp"
#include "math_table_impl.hpp"
#include "sparse.hpp"
#include "sum_kernels.hpp"
#include "update_kernels.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

template <class T>
constexpr Kernels<T> make_kernels(const MathTable<T>* math) {
  Kernels<T> k{};
  k.tile_rows = max_tile_rows;
  k.panel = panel_columns<T>;
  k.pack = pack<T>;
  k.pack_transposed = pack_transposed<T>;
  k.multiply = multiply<T>;
  k.multiply_large = multiply_large<false, T>;
  k.multiply_far = multiply_far<T>;
  k.multiply_large_transposed = multiply_large<true, T>;
  k.multiply_column = multiply_column<T>;
  k.gather_rows = gather_rows<T>;
  fill_activations(k, static_cast<Activation*>(nullptr));
  fill_losses(k, static_cast<Loss*>(nullptr));
  fill_updates(k, static_cast<Rule*>(nullptr));
  k.prefetch = [](Size rows, Size columns, const T* data, Size stride) { prefetch(rows, columns, data, stride); };
  k.sum_of_squares = sum_of_squares<T>;
  k.all_finite = all_finite<T>;
  k.largest = largest<T>;
  k.gradient_sums = gradient_sums<T>;
  k.activation_sums = activation_sums<T>;
  k.math = math;
  return k;
}

const Kernels<float>* float_kernels() {
  static constexpr MathTable<float> math = make_math_table<float>();
  static constexpr Kernels<float> table = make_kernels<float>(&math);
  return &table;
}

const Kernels<double>* double_kernels() {
  static constexpr MathTable<double> math = make_math_table<double>();
  static constexpr Kernels<double> table = make_kernels<double>(&math);
  return &table;
}

}  // namespace chainrule::engine::CHAINRULE_ISA
