// Compiled once per instruction set, with CHAINRULE_ISA naming it. See kernels.hpp.

#include "kernels.hpp"

#include "chainrule/activation.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/rule.hpp"
#include "gemm.hpp"
#include "math_table_impl.hpp"
#include "vector.hpp"
#include "vector_math.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

/// Lanes of the register at column c that hold columns.
template <class V>
CHAINRULE_INLINE typename V::Mask inside(Size columns, Size c) {
  return V::first(static_cast<int>(columns - c < V::size ? columns - c : V::size));
}

// Activations.

template <class A, class T>
void activate(Size rows, Size columns, Rows<const T> z, Rows<T> a, T parameter) {
  using V = FullVec<T>;
  const V p = V(parameter);
  for (Size r = 0; r < rows; ++r)
    for (Size c = 0; c < columns; c += V::size) A::value(V::load(z.row(r) + c), p).store(a.row(r) + c);
}

template <class A, class T>
void times_derivative(Size rows, Size columns, Rows<const T> z, Rows<const T> a, Rows<T> delta, T parameter) {
  using V = FullVec<T>;
  const V p = V(parameter);
  for (Size r = 0; r < rows; ++r)
    for (Size c = 0; c < columns; c += V::size) {
      T* d = delta.row(r) + c;
      const V before = A::needs_z ? V::load(z.row(r) + c) : V(0);
      (V::load(d) * A::derivative(before, V::load(a.row(r) + c), p)).store(d);
    }
}

/// ln Σ_j e^{x_j} = `shift` + ln `total`, with the largest x_j as shift so that nothing overflows.
template <class V>
struct ExponentialSum {
  V shift, total;

  CHAINRULE_INLINE ExponentialSum(Size columns, const typename V::Scalar* x) {
    V top = V(-__builtin_inff());
    for (Size c = 0; c < columns; c += V::size)
      top = max(top, select(inside<V>(columns, c), V::load(x + c), V(-__builtin_inff())));
    shift = V(largest(top));
    V sums = V(0);
    for (Size c = 0; c < columns; c += V::size)
      sums += select(inside<V>(columns, c), exp(V::load(x + c) - shift), V(0));
    total = V(sum(sums));
  }
  CHAINRULE_INLINE V share(V x) const { return exp(x - shift) / total; }
};

template <class T>
void activate_softmax(Size rows, Size columns, Rows<const T> z, Rows<T> a, T) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    const ExponentialSum<V> sums(columns, z.row(r));
    for (Size c = 0; c < columns; c += V::size) sums.share(V::load(z.row(r) + c)).store(a.row(r) + c);
  }
}

/// δ_j ← a_j (δ_j - Σ_k δ_k a_k)
template <class T>
void times_softmax_derivative(Size rows, Size columns, Rows<const T>, Rows<const T> a, Rows<T> delta, T) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    V dots = V(0);
    for (Size c = 0; c < columns; c += V::size)
      dots += select(inside<V>(columns, c), V::load(delta.row(r) + c) * V::load(a.row(r) + c), V(0));
    const V dot = V(sum(dots));
    for (Size c = 0; c < columns; c += V::size) {
      T* d = delta.row(r) + c;
      (V::load(a.row(r) + c) * (V::load(d) - dot)).store(d);
    }
  }
}

template <class T, class... A>
constexpr void fill_activations(Kernels<T>& k, std::variant<A...>*) {
  static_assert(sizeof...(A) == activation_count);
  int i = 0;
  auto fill = [&]<class One>(One*) {
    if constexpr (std::is_same_v<One, Softmax>) {
      k.activate[i] = activate_softmax<T>;
      k.times_derivative[i] = times_softmax_derivative<T>;
    } else {
      k.activate[i] = activate<One, T>;
      k.times_derivative[i] = times_derivative<One, T>;
    }
    ++i;
  };
  (fill(static_cast<A*>(nullptr)), ...);
}

// Losses.

template <class L, class T>
void loss(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T* parameter, T scale, const T* weight,
          double* row_loss, Rows<T> delta) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    const V factor = V(weight ? scale * weight[r] : scale);
    V total = V(0);
    for (Size c = 0; c < columns; c += V::size) {
      const V xs = V::load(x.row(r) + c), ys = V::load(y.row(r) + c), p = V::load(parameter + c);
      total += select(inside<V>(columns, c), L::value(xs, ys, p), V(0));
      if (!delta.data) continue;
      V slope;
      if constexpr (L::from_logits)
        slope = L::link(xs) - ys;
      else
        slope = L::derivative(xs, ys, p);
      (factor * slope).store(delta.row(r) + c);
    }
    row_loss[r] = static_cast<double>(sum(total));
  }
}

template <class T>
void cross_entropy(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T*, T scale, const T* weight,
                   double* row_loss, Rows<T> delta) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    const V factor = V(weight ? scale * weight[r] : scale);
    const ExponentialSum<V> sums(columns, x.row(r));
    const V log_total = log(sums.total);
    V losses = V(0), masses = V(0);
    for (Size c = 0; c < columns; c += V::size) {
      const auto in = inside<V>(columns, c);
      const V xs = V::load(x.row(r) + c), ys = V::load(y.row(r) + c);
      // A target of zero counts nothing, however small its probability is.
      losses += select(in & (ys != V(0)), ys * (log_total - (xs - sums.shift)), V(0));
      masses += select(in, ys, V(0));
    }
    row_loss[r] = static_cast<double>(sum(losses));
    if (!delta.data) continue;
    const V mass = V(sum(masses));
    for (Size c = 0; c < columns; c += V::size)
      (factor * (sums.share(V::load(x.row(r) + c)) * mass - V::load(y.row(r) + c))).store(delta.row(r) + c);
  }
}

template <class T, class... L>
constexpr void fill_losses(Kernels<T>& k, std::variant<L...>*) {
  static_assert(sizeof...(L) == loss_count);
  int i = 0;
  auto fill = [&]<class One>(One*) {
    if constexpr (std::is_same_v<One, CrossEntropy>)
      k.loss[i++] = cross_entropy<T>;
    else
      k.loss[i++] = loss<One, T>;
  };
  (fill(static_cast<L*>(nullptr)), ...);
}

// Optimizers.

template <class R, class T>
void update(Size rows, Size columns, Rows<const T> gradient, T* theta, T* const* moments, Size stride,
            const double* constants) {
  using V = FullVec<T>;
  V c[std::tuple_size_v<UpdateConstants>];
  for (unsigned i = 0; i < std::tuple_size_v<UpdateConstants>; ++i) c[i] = V(static_cast<T>(constants[i]));
  for (Size r = 0; r < rows; ++r)
    for (Size j = 0; j < columns; j += V::size) {
      const int count = static_cast<int>(columns - j < V::size ? columns - j : V::size);
      const Size at = r * stride + j;
      V s[max_moments];
      for (int i = 0; i < max_moments; ++i) s[i] = moments[i] ? V::load(moments[i] + at, count) : V(0);
      V w = V::load(theta + at, count);
      R::update(c, V::load(gradient.row(r) + j, count), w, s);
      w.store(theta + at, count);
      for (int i = 0; i < max_moments; ++i)
        if (moments[i]) s[i].store(moments[i] + at, count);
    }
}

template <class T, class... R>
constexpr void fill_updates(Kernels<T>& k, std::variant<R...>*) {
  static_assert(sizeof...(R) == rule_count);
  int i = 0;
  ((k.update[i++] = update<R, T>), ...);
}

template <class T>
double sum_of_squares(Size n, const T* x) {
  double sums[8] = {};
  Size i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

template <class T>
bool all_finite(Size n, const T* x) {
  using V = FullVec<T>;
  // x·0 is NaN for NaN and infinities, and NaN stays in a sum.
  V a = V(0), b = V(0);
  Size i = 0;
  for (; i + 2 * V::size <= n; i += 2 * V::size) {
    a = fma(V::load(x + i), V(0), a);
    b = fma(V::load(x + i + V::size), V(0), b);
  }
  for (; i < n; i += V::size)
    a = fma(V::load(x + i, static_cast<int>(n - i < V::size ? n - i : V::size)), V(0), a);
  const T total = sum(a + b);
  return total == total;
}

template <class T>
constexpr Kernels<T> make_kernels(const MathTable<T>* math) {
  Kernels<T> k{};
  k.tile_rows = max_tile_rows;
  k.panel = panel_columns<T>;
  k.pack = pack<T>;
  k.pack_transposed = pack_transposed<T>;
  k.multiply = multiply<T>;
  k.multiply_large = multiply_large<false, T>;
  k.multiply_large_transposed = multiply_large<true, T>;
  fill_activations(k, static_cast<Activation*>(nullptr));
  fill_losses(k, static_cast<Loss*>(nullptr));
  fill_updates(k, static_cast<Rule*>(nullptr));
  k.sum_of_squares = sum_of_squares<T>;
  k.all_finite = all_finite<T>;
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
