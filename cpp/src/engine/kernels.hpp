#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "chainrule/activation.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/rule.hpp"
#include "range.hpp"

namespace chainrule::engine {

template <class T>
struct MathTable;

/// The right factor of a product as the micro-kernel reads it: panels of `Kernels::panel` columns side by side. Element
/// (k, j) of panel p is data[p * panel_stride + k * row_stride + j]. A row-major matrix is of this form as it lies; the
/// panels that `pack` writes are dense.
template <class T>
struct Panels {
  const T* data;
  Size row_stride;
  Size panel_stride;
};

/// Rows of numbers, `pitch` apart, which may be read and written up to the next whole register behind their end.
template <class T>
struct Rows {
  T* data;
  Size pitch;
  T* row(Size r) const { return data + r * pitch; }
  Rows from(Size r) const { return {row(r), pitch}; }
  Rows columns_from(Size c) const { return {data + c, pitch}; }
  operator Rows<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, pitch};
  }
};

/// Long sums are cut into even blocks of about 256, each summed in registers: the right factor's block stays in the
/// caches, and rounding errors grow with the number of blocks. How they are cut depends on their length alone.
inline constexpr Size longest_block = 384;
CHAINRULE_INLINE constexpr Size sum_blocks(Size k) { return k < longest_block ? 1 : (k + 128) / 256; }

/// Of matrices that do not fit the caches, so many columns are taken through a product at a time: a whole number of
/// panels, of which a block of the sum stays in the second-level cache, and enough to make up for fetching the left
/// factor for each.
template <class T>
inline constexpr Size strip_columns = 512 / static_cast<Size>(sizeof(T));

/// So few tiles of rows read each number of the right factor but so often: then fetching it takes longer than the sums.
inline constexpr Size far_tiles = 4;

inline constexpr std::size_t activation_count = std::variant_size_v<Activation>;
inline constexpr std::size_t loss_count = std::variant_size_v<Loss>;
inline constexpr std::size_t rule_count = std::variant_size_v<Rule>;

/// Of some numbers.
struct Sums {
  double plain = 0, absolute = 0, squares = 0, largest = 0;  // Σx, Σ|x|, Σx², max|x|
  Size zeros = 0, outside = 0;                               // how many are zero, and how many outside a range
  double change_squares = 0, theta_squares = 0;              // of an update: Σ(Δθ)², and Σθ² before it
};

/// All that is compiled per instruction set. Shapes are (rows, columns); an array has an entry for each alternative of
/// the variant of activation.hpp, loss.hpp or rule.hpp.
template <class T>
struct Kernels {
  Size tile_rows;  // of the micro-kernel, at most
  Size panel;      // columns of a panel

  /// B (k, n), rows ldb apart, as panels; columns behind the last are zero.
  void (*pack)(Size k, Size n, const T* B, Size ldb, T* panels);
  /// Bᵀ, of B (n, k), as panels.
  void (*pack_transposed)(Size k, Size n, const T* B, Size ldb, T* panels);
  /// C (m, n) = or, with `add`, += A (m, k) B (k, n), with A(i, p) = A[i * row_stride + p * column_stride]. Each
  /// element is summed in the order of p, in `sum_blocks`, whatever m and n are.
  void (*multiply)(Size m, Size n, Size k, const T* A, Size row_stride, Size column_stride, Panels<T> B, Rows<T> C,
                   bool add);
  /// The same, to the bit, with a row-major B (k, n), rows ldb apart, that is too large for `pack`.
  void (*multiply_large)(Size m, Size n, Size k, const T* A, Size row_stride, const T* B, Size ldb, Rows<T> C,
                         bool add);
  /// The same with at most `far_tiles` tiles of rows, for which fetching B takes longer than the products.
  void (*multiply_far)(Size m, Size n, Size k, const T* A, Size row_stride, const T* B, Size ldb, Rows<T> C, bool add);
  /// multiply_large with Bᵀ, of B (n, k).
  void (*multiply_large_transposed)(Size m, Size n, Size k, const T* A, Size row_stride, const T* B, Size ldb,
                                    Rows<T> C, bool add);

  /// c (m) = or, with `add`, += A (m, k) b (k): the product with a single column, of numbers b_stride apart. Each
  /// element is summed by the lanes of a register, and then over them, in `sum_blocks`, whatever m is.
  void (*multiply_column)(Size m, Size k, const T* A, Size row_stride, const T* b, Size b_stride, Rows<T> c, bool add);

  /// sum_j += Σ_k value_k rows(index_k, j): a row of a product with a sparse left factor. Each sum is in the order of
  /// k.
  void (*gather_rows)(Size count, const std::int32_t* index, const T* value, Size columns, const T* rows, Size stride,
                      T* sum);

  /// a = σ(z); z and a may be the same. Returns the largest |a|, or NaN if there is one.
  T (*activate[activation_count])(Size rows, Size columns, Rows<const T> z, Rows<T> a, T parameter);
  /// δ ← δ ⊙ σ'(z). Returns the largest |δ|, or NaN if there is one.
  T (*times_derivative[activation_count])(Size rows, Size columns, Rows<const T> z, Rows<const T> a, Rows<T> delta,
                                          T parameter);
  /// The derivative of δ = g ⊙ σ'(z) along (Rz, Rg): Rg ← Rg ⊙ σ'(z) + g ⊙ σ''(z) ⊙ Rz
  void (*directional_derivative[activation_count])(Size rows, Size columns, Rows<const T> z, Rows<const T> a,
                                                   Rows<const T> Rz, Rows<const T> g, Rows<T> Rg, T parameter);
  /// row_loss[i] = Σ_j ℓ(x_ij, y_ij);  δ_ij = weight_i · dℓ/dx. `parameter` is per column. δ may be null (not wanted),
  /// and `weight` then too.
  void (*loss[loss_count])(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T* parameter,
                           const T* weight, double* row_loss, Rows<T> delta);
  /// The derivative of weight_i · dℓ/dx along Rx: Rx_ij ← weight_i · Σ_k d²ℓ/dx_ij dx_ik · Rx_ik
  void (*loss_curvature[loss_count])(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T* parameter,
                                     const T* weight, Rows<T> Rx);
  /// One update of a (rows, columns) part of θ, whose rows are `stride` apart; moments are laid out like it, or null.
  /// Unless `sums` is null, those of the gradient and of the update are added to it.
  void (*update[rule_count])(Size rows, Size columns, Rows<const T> gradient, T* theta, T* const* moments, Size stride,
                             const double* constants, Sums* sums);

  /// Asks for a (rows, columns) block of memory ahead of its use. Only called through this table: GCC takes a function
  /// that does nothing but prefetch for one without effect, and drops the calls that it can see.
  void (*prefetch)(Size rows, Size columns, const T* data, Size stride);

  /// Σ x², summed in a fixed order in double.
  double (*sum_of_squares)(Size n, const T* x);
  bool (*all_finite)(Size n, const T* x);
  /// The largest |x|, or NaN if there is one.
  T (*largest)(Size rows, Size columns, Rows<const T> x);
  /// Adds up `absolute`, `squares`, `largest` and `zeros`. The squares are not finite where a number is not.
  void (*gradient_sums)(Size n, const T* x, Sums* sums);
  /// Adds up `plain` and `squares` of x - shift, and `outside` of low ≤ x ≤ high;  peak[j] = max_i x_ij, unless that is
  /// null.
  void (*activation_sums)(Size rows, Size columns, Rows<const T> x, T shift, T low, T high, T* peak, Sums* sums);

  const MathTable<T>* math;
};

/// Chooses the instruction set; std::runtime_error where CHAINRULE_ISA asks for one that is not to be had.
template <class T>
const Kernels<T>& choose_kernels();
template <class T>
inline std::atomic<const Kernels<T>*> chosen_kernels{nullptr};

/// The kernels of the instruction set in use.
template <class T>
const Kernels<T>& kernels() {
  const Kernels<T>* chosen = chosen_kernels<T>.load(std::memory_order_acquire);
  return chosen ? *chosen : choose_kernels<T>();
}

}  // namespace chainrule::engine
