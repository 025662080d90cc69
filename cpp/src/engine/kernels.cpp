// Compiled once per instruction set, with CHAINRULE_ISA naming it. See kernels.hpp.

#include "kernels.hpp"

#include "chainrule/activation.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/rule.hpp"
#include "gemm.hpp"
#include "math_table_impl.hpp"
#include "sparse.hpp"
#include "vector.hpp"
#include "vector_math.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

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

// Activations. Flat, since GCC would call many of them for each register, whose constants then come from memory.

template <class A, class T>
[[gnu::flatten]] T activate(Size rows, Size columns, Rows<const T> z, Rows<T> a, T parameter) {
  return in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    const V p = V(parameter);
    Largest<V> largest(columns);
    for (Size r = 0; r < rows; ++r)
      for (Size c = 0; c < columns; c += V::size) {
        const V value = A::value(V::load(z.row(r) + c), p);
        value.store(a.row(r) + c);
        largest.see(c, value);
      }
    return largest.value();
  });
}

template <class A, class T>
[[gnu::flatten]] T times_derivative(Size rows, Size columns, Rows<const T> z, Rows<const T> a, Rows<T> delta,
                                    T parameter) {
  return in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    const V p = V(parameter);
    Largest<V> largest(columns);
    for (Size r = 0; r < rows; ++r)
      for (Size c = 0; c < columns; c += V::size) {
        T* d = delta.row(r) + c;
        const V before = A::needs_z ? V::load(z.row(r) + c) : V(0);
        const V value = V::load(d) * A::derivative(before, V::load(a.row(r) + c), p);
        value.store(d);
        largest.see(c, value);
      }
    return largest.value();
  });
}

/// e_ij = e^{x_ij - shift_i}, with the largest x_ij as shift_i so that nothing overflows, and their sums over j: of
/// rows that may be larger than registers, at most as many as a register has lanes. What there is once a row is worked
/// out for all of them together.
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

template <class T>
T activate_softmax(Size rows, Size columns, Rows<const T> z, Rows<T> a, T) {
  in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    for (Size first = 0; first < rows; first += V::size) {
      const Size count = rows - first < V::size ? rows - first : V::size;
      const Exponentials<V> e(count, columns, z.from(first));
      V total[V::size] = {};
      for (Size i = 0; i < count; ++i)
        for (Size c = 0; c < columns; c += V::size) {
          const V power = e.power(i, c);
          power.store(a.row(first + i) + c);
          total[i] += power;
        }
      T totals[V::size];
      sums(total).store(totals);
      for (Size i = 0; i < count; ++i)
        for (Size c = 0; c < columns; c += V::size) {
          T* to = a.row(first + i) + c;
          (V::load(to) / V(totals[i])).store(to);
        }
    }
  });
  return largest<T>(rows, columns, a);
}

/// δ_j ← a_j (δ_j - Σ_k δ_k a_k)
template <class T>
T times_softmax_derivative(Size rows, Size columns, Rows<const T>, Rows<const T> a, Rows<T> delta, T) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    V dots = V(0);
    for (Size c = 0; c < columns; c += V::size)
      dots += select(inside<V>(columns, c), V::load(delta.row(r) + c) * V::load(a.row(r) + c), V(0));
    const V dot = sum(dots);
    for (Size c = 0; c < columns; c += V::size) {
      T* d = delta.row(r) + c;
      (V::load(a.row(r) + c) * (V::load(d) - dot)).store(d);
    }
  }
  return largest<T>(rows, columns, delta);
}

template <class A, class T>
[[gnu::flatten]] void directional_derivative(Size rows, Size columns, Rows<const T> z, Rows<const T> a,
                                             Rows<const T> Rz, Rows<const T> g, Rows<T> Rg, T parameter) {
  using V = FullVec<T>;
  const V p = V(parameter);
  for (Size r = 0; r < rows; ++r)
    for (Size c = 0; c < columns; c += V::size) {
      const V zs = A::needs_z ? V::load(z.row(r) + c) : V(0), as = V::load(a.row(r) + c);
      const V curved = V::load(g.row(r) + c) * A::second_derivative(zs, as, p) * V::load(Rz.row(r) + c);
      fma(V::load(Rg.row(r) + c), A::derivative(zs, as, p), curved).store(Rg.row(r) + c);
    }
}

/// Of δ_j = a_j (g_j - Σ_k g_k a_k), with Ra_j = a_j (Rz_j - Σ_k Rz_k a_k)
template <class T>
void directional_softmax_derivative(Size rows, Size columns, Rows<const T>, Rows<const T> a, Rows<const T> Rz,
                                    Rows<const T> g, Rows<T> Rg, T) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    V z_dots = V(0), g_dots = V(0);
    for (Size c = 0; c < columns; c += V::size) {
      const auto in = inside<V>(columns, c);
      const V as = V::load(a.row(r) + c);
      z_dots += select(in, V::load(Rz.row(r) + c) * as, V(0));
      g_dots += select(in, V::load(g.row(r) + c) * as, V(0));
    }
    const V z_dot = sum(z_dots), g_dot = sum(g_dots);
    V dots = V(0);
    for (Size c = 0; c < columns; c += V::size) {
      const V as = V::load(a.row(r) + c), Ra = as * (V::load(Rz.row(r) + c) - z_dot);
      dots += select(inside<V>(columns, c), V::load(Rg.row(r) + c) * as + V::load(g.row(r) + c) * Ra, V(0));
    }
    const V dot = sum(dots);
    for (Size c = 0; c < columns; c += V::size) {
      const V as = V::load(a.row(r) + c), Ra = as * (V::load(Rz.row(r) + c) - z_dot);
      (Ra * (V::load(g.row(r) + c) - g_dot) + as * (V::load(Rg.row(r) + c) - dot)).store(Rg.row(r) + c);
    }
  }
}

template <class T, class... A>
constexpr void fill_activations(Kernels<T>& k, std::variant<A...>*) {
  int i = 0;
  auto fill = [&]<class One>(One*) {
    if constexpr (std::is_same_v<One, Softmax>) {
      k.activate[i] = activate_softmax<T>;
      k.times_derivative[i] = times_softmax_derivative<T>;
      k.directional_derivative[i] = directional_softmax_derivative<T>;
    } else {
      k.activate[i] = activate<One, T>;
      k.times_derivative[i] = times_derivative<One, T>;
      k.directional_derivative[i] = directional_derivative<One, T>;
    }
    ++i;
  };
  (fill(static_cast<A*>(nullptr)), ...);
}

// Losses.

template <class L, class V>
CHAINRULE_INLINE V loss_slope(V x, V y, V parameter) {
  if constexpr (L::from_logits)
    return L::link(x) - y;
  else
    return L::derivative(x, y, parameter);
}

/// `loss` of one column, with rows for lanes.
template <class L, class T>
void loss_of_column(Size rows, Rows<const T> x, Rows<const T> y, T parameter, const T* weight, double* row_loss,
                    Rows<T> delta) {
  using V = FullVec<T>;
  for (Size first = 0; first < rows; first += V::size) {
    const int count = static_cast<int>(rows - first < V::size ? rows - first : V::size);
    T values[V::size] = {}, xs[V::size] = {}, ys[V::size] = {};
    for (int i = 0; i < count; ++i) xs[i] = *x.row(first + i);
    for (int i = 0; i < count; ++i) ys[i] = *y.row(first + i);
    L::value(V::load(xs), V::load(ys), V(parameter)).store(values);
    for (int i = 0; i < count; ++i) row_loss[first + i] = static_cast<double>(values[i]);
    if (!delta.data) continue;
    const V factor = V::load(weight + first, count);
    (factor * loss_slope<L>(V::load(xs), V::load(ys), V(parameter))).store(values);
    for (int i = 0; i < count; ++i) *delta.row(first + i) = values[i];
  }
}

template <class L, class T>
void loss(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T* parameter, const T* weight,
          double* row_loss, Rows<T> delta) {
  if (columns == 1) return loss_of_column<L>(rows, x, y, *parameter, weight, row_loss, delta);
  in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    for (Size r = 0; r < rows; ++r) {
      const V factor = V(delta.data ? weight[r] : T(0));
      V total = V(0);
      for (Size c = 0; c < columns; c += V::size) {
        const V xs = V::load(x.row(r) + c), ys = V::load(y.row(r) + c), p = V::load(parameter + c);
        total += select(inside<V>(columns, c), L::value(xs, ys, p), V(0));
        if (delta.data) (factor * loss_slope<L>(xs, ys, p)).store(delta.row(r) + c);
      }
      row_loss[r] = static_cast<double>(sum(total).first_lane());
    }
  });
}

/// Σ_j y_j (ln Σ_k e^{x_k} - x_j)
template <class T>
void cross_entropy(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T*, const T* weight,
                   double* row_loss, Rows<T> delta) {
  in_registers<T>(columns, [&]<class V>(V) __attribute__((always_inline)) {
    for (Size first = 0; first < rows; first += V::size) {
      const Size count = rows - first < V::size ? rows - first : V::size;
      const Exponentials<V> e(count, columns, x.from(first));
      V total[V::size] = {}, mass[V::size] = {}, dot[V::size] = {};  // Σ e_j, Σ y_j and Σ y_j (x_j - shift)
      for (Size i = 0; i < count; ++i)
        for (Size c = 0; c < columns; c += V::size) {
          const V power = e.power(i, c), ys = V::load(y.row(first + i) + c);
          if (delta.data) power.store(delta.row(first + i) + c);
          total[i] += power;
          const auto in = inside<V>(columns, c);
          mass[i] += select(in, ys, V(0));
          // A target of zero counts nothing, however small its probability is.
          dot[i] += select(in & (ys != V(0)), ys * (V::load(x.row(first + i) + c) - e.shift(i)), V(0));
        }
      const V totals = sums(total), masses = sums(mass);
      T losses[V::size], shares[V::size];
      (masses * log(totals) - sums(dot)).store(losses);
      (masses / totals).store(shares);
      for (Size i = 0; i < count; ++i) {
        row_loss[first + i] = static_cast<double>(losses[i]);
        if (!delta.data) continue;
        const V factor = V(weight[first + i]), share = V(shares[i]);
        T* to = delta.row(first + i);
        for (Size c = 0; c < columns; c += V::size)
          (factor * (V::load(to + c) * share - V::load(y.row(first + i) + c))).store(to + c);
      }
    }
  });
}

template <class L, class T>
void loss_curvature(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T* parameter, const T* weight,
                    Rows<T> Rx) {
  using V = FullVec<T>;
  for (Size r = 0; r < rows; ++r) {
    const V factor = V(weight[r]);
    for (Size c = 0; c < columns; c += V::size) {
      const V curvature = L::second_derivative(V::load(x.row(r) + c), V::load(y.row(r) + c), V::load(parameter + c));
      (factor * curvature * V::load(Rx.row(r) + c)).store(Rx.row(r) + c);
    }
  }
}

/// With p = softmax(x): weight Σ_j y_j · p_j (Rx_j - Σ_k p_k Rx_k)
template <class T>
void cross_entropy_curvature(Size rows, Size columns, Rows<const T> x, Rows<const T> y, const T*, const T* weight,
                             Rows<T> Rx) {
  using V = FullVec<T>;
  for (Size first = 0; first < rows; first += V::size) {
    const Size count = rows - first < V::size ? rows - first : V::size;
    const Exponentials<V> e(count, columns, x.from(first));
    V total[V::size] = {}, mass[V::size] = {}, dot[V::size] = {};  // Σ e_j, Σ y_j and Σ e_j Rx_j
    for (Size i = 0; i < count; ++i)
      for (Size c = 0; c < columns; c += V::size) {
        const auto in = inside<V>(columns, c);
        const V power = e.power(i, c);
        total[i] += power;
        mass[i] += select(in, V::load(y.row(first + i) + c), V(0));
        dot[i] += select(in, power * V::load(Rx.row(first + i) + c), V(0));
      }
    const V totals = sums(total);
    T means[V::size], shares[V::size];
    (sums(dot) / totals).store(means);
    (sums(mass) / totals).store(shares);
    for (Size i = 0; i < count; ++i) {
      const V factor = V(weight[first + i]) * V(shares[i]), mean = V(means[i]);
      for (Size c = 0; c < columns; c += V::size) {
        T* to = Rx.row(first + i) + c;
        (factor * e.power(i, c) * (V::load(to) - mean)).store(to);
      }
    }
  }
}

template <class T, class... L>
constexpr void fill_losses(Kernels<T>& k, std::variant<L...>*) {
  int i = 0;
  auto fill = [&]<class One>(One*) {
    if constexpr (std::is_same_v<One, CrossEntropy>) {
      k.loss[i] = cross_entropy<T>;
      k.loss_curvature[i] = cross_entropy_curvature<T>;
    } else {
      k.loss[i] = loss<One, T>;
      k.loss_curvature[i] = loss_curvature<One, T>;
    }
    ++i;
  };
  (fill(static_cast<L*>(nullptr)), ...);
}

// Sums. Lanes sum up runs of this many registers in T, so that the rounding error stays near T's own, and the runs are
// added in double.
inline constexpr Size run_length = 64;

template <class V>
CHAINRULE_INLINE double total(V lanes) {
  return static_cast<double>(sum(lanes).first_lane());
}

template <class V>
struct GradientLanes {
  V absolute = V(0), squares = V(0), zeros = V(0), top = V(0);

  CHAINRULE_INLINE void add(V g, typename V::Mask in) {
    const V size = abs(g);
    absolute += size;
    squares = fma(size, size, squares);
    zeros += select((size == V(0)) & in, V(1), V(0));
    top = at_least(top, size);
  }
  CHAINRULE_INLINE void add_to(Sums* sums) const {
    sums->absolute += total(absolute);
    sums->squares += total(squares);
    sums->zeros += static_cast<Size>(total(zeros));
    const double peak = static_cast<double>(largest(top).first_lane());
    sums->largest = sums->largest > peak ? sums->largest : peak;
  }
};

// Optimizers.

/// Looks on as parameters are updated.
template <class V>
class Watch {
 public:
  CHAINRULE_INLINE explicit Watch(Sums* sums) : sums_(sums) {}
  CHAINRULE_INLINE ~Watch() { finish_run(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  CHAINRULE_INLINE void see(V gradient, V before, V after, int count) {
    const auto in = V::first(count);
    gradient_.add(gradient, in);
    const V change = select(in, after - before, V(0));
    changes_ = fma(change, change, changes_);
    squares_ = fma(before, before, squares_);
    if (++seen_ == run_length) {
      finish_run();
      gradient_ = {};
      changes_ = squares_ = V(0);
      seen_ = 0;
    }
  }

 private:
  CHAINRULE_INLINE void finish_run() {
    gradient_.add_to(sums_);
    sums_->change_squares += total(changes_);
    sums_->theta_squares += total(squares_);
  }

  Sums* sums_;
  GradientLanes<V> gradient_;
  V changes_ = V(0), squares_ = V(0);
  Size seen_ = 0;
};

template <class V>
struct Unwatched {
  CHAINRULE_INLINE explicit Unwatched(Sums*) {}
  CHAINRULE_INLINE void see(V, V, V, int) {}
};

/// The update of numbers that lie side by side, with the moments whose bits are set.
template <unsigned Moments, class R, class V, class Watch>
CHAINRULE_INLINE void update_run(Size count, const typename V::Scalar* gradient, typename V::Scalar* theta,
                                 typename V::Scalar* const* moments, Size at, const V* constants, Watch& watch) {
  const auto update_lanes = [&](Size i, int width) __attribute__((always_inline)) {
    V s[max_moments] = {V(0), V(0), V(0)};
    for (int m = 0; m < max_moments; ++m)
      if (Moments >> m & 1) s[m] = V::load(moments[m] + at + i, width);
    const V g = V::load(gradient + i, width), before = V::load(theta + at + i, width);
    V w = before;
    R::update(constants, g, w, s);
    w.store(theta + at + i, width);
    for (int m = 0; m < max_moments; ++m)
      if (Moments >> m & 1) s[m].store(moments[m] + at + i, width);
    watch.see(g, before, w, width);
  };
  Size i = 0;
  for (; i + V::size <= count; i += V::size) update_lanes(i, V::size);
  if (i < count) update_lanes(i, static_cast<int>(count - i));
}

template <unsigned Moments, class R, class T, class Watch>
void update_with(Size rows, Size columns, Rows<const T> gradient, T* theta, T* const* moments, Size stride,
                 const double* constants, Sums* sums) {
  using V = FullVec<T>;
  V c[std::tuple_size_v<UpdateConstants>];
  for (unsigned i = 0; i < std::tuple_size_v<UpdateConstants>; ++i) c[i] = V(static_cast<T>(constants[i]));
  Watch watch(sums);
  // Rows as long as θ's are one run there, in which no lane is idle at the end of a row.
  if (columns == stride && columns == gradient.pitch) {
    columns *= rows;
    rows = 1;
  }
  constexpr Size longest_run = 128 * V::size;
  if (columns == stride && columns % V::size != 0 && rows * columns <= longest_run) {
    T run[longest_run + V::size];
    for (Size r = 0; r < rows; ++r)
      for (Size j = 0; j < columns; j += V::size) {
        const int width = static_cast<int>(columns - j < V::size ? columns - j : V::size);
        V::load(gradient.row(r) + j, width).store(run + r * columns + j);
      }
    update_run<Moments, R, V>(rows * columns, run, theta, moments, 0, c, watch);
    return;
  }
  for (Size r = 0; r < rows; ++r)
    update_run<Moments, R, V>(columns, gradient.row(r), theta, moments, r * stride, c, watch);
}

template <class R, class T, unsigned Optional = R::optional_moments>
void update(Size rows, Size columns, Rows<const T> gradient, T* theta, T* const* moments, Size stride,
            const double* constants, Sums* sums) {
  unsigned present = 0;
  for (int m = 0; m < max_moments; ++m) present |= moments[m] ? 1u << m : 0u;
  present &= R::required_moments | R::optional_moments;
  constexpr unsigned all = R::required_moments | Optional;
  if (present == all)
    return sums ? update_with<all, R, T, Watch<FullVec<T>>>(rows, columns, gradient, theta, moments, stride, constants,
                                                            sums)
                : update_with<all, R, T, Unwatched<FullVec<T>>>(rows, columns, gradient, theta, moments, stride,
                                                                constants, sums);
  // The next smaller subset of the optional moments.
  if constexpr (Optional != 0)
    update<R, T, (Optional - 1) & R::optional_moments>(rows, columns, gradient, theta, moments, stride, constants,
                                                       sums);
}

template <class T, class... R>
constexpr void fill_updates(Kernels<T>& k, std::variant<R...>*) {
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
  for (; i < n; i += V::size) a = fma(V::load(x + i, static_cast<int>(n - i < V::size ? n - i : V::size)), V(0), a);
  const T total = sum(a + b).first_lane();
  return total == total;
}

// Registers whose sums run side by side: one alone waits for its own last addition.
inline constexpr int side_by_side = 4;

template <class T>
void gradient_sums(Size n, const T* x, Sums* sums) {
  using V = FullVec<T>;
  constexpr Size run = side_by_side * run_length * V::size;
  for (Size begin = 0; begin < n; begin += run) {
    const Size end = n - begin < run ? n : begin + run;
    GradientLanes<V> lanes[side_by_side];
    Size i = begin;
    for (; i + side_by_side * V::size <= end; i += side_by_side * V::size)
      for (int j = 0; j < side_by_side; ++j) lanes[j].add(V::load(x + i + j * V::size), V(0) == V(0));
    for (; i < end; i += V::size) {
      const int count = static_cast<int>(end - i < V::size ? end - i : V::size);
      lanes[0].add(V::load(x + i, count), V::first(count));
    }
    for (const GradientLanes<V>& of : lanes) of.add_to(sums);
  }
}

/// The columns of `count` registers; with one, there may be fewer.
template <int count, bool bounded, bool peaks, class T>
void column_sums(Size rows, Size columns, Rows<const T> x, T shift, T low, T high, T* peak, Sums* sums) {
  using V = FullVec<T>;
  struct Lanes {
    V plain = V(0), squares = V(0), outside = V(0);
  };
  const auto in = inside<V>(columns, 0);
  const auto at = [&](Size r, int j) {
    const V value = V::load(x.row(r) + j * V::size);
    if constexpr (count == 1) return select(in, value, V(0));
    return value;
  };
  struct Top {
    V value = V(0);
  } top[count];
  for (int j = 0; j < count; ++j) top[j].value = at(0, j);
  for (Size begin = 0; begin < rows; begin += run_length) {
    const Size end = rows - begin < run_length ? rows : begin + run_length;
    Lanes lanes[count];
    for (Size r = begin; r < end; ++r)
      for (int j = 0; j < count; ++j) {
        const V value = at(r, j);
        V from_shift = value - V(shift);
        if constexpr (count == 1) from_shift = select(in, from_shift, V(0));
        lanes[j].plain += from_shift;
        lanes[j].squares = fma(from_shift, from_shift, lanes[j].squares);
        if constexpr (bounded) lanes[j].outside += select(in & ((value < V(low)) | (value > V(high))), V(1), V(0));
        if constexpr (peaks) top[j].value = max(top[j].value, value);
      }
    for (const Lanes& of : lanes) {
      sums->plain += total(of.plain);
      sums->squares += total(of.squares);
      if constexpr (bounded) sums->outside += static_cast<Size>(total(of.outside));
    }
  }
  for (int j = 0; peaks && j < count; ++j) {
    const Size left = columns - j * V::size;
    top[j].value.store(peak + j * V::size, static_cast<int>(left < V::size ? left : V::size));
  }
}

template <bool bounded, bool peaks, class T>
void activation_sums_of(Size rows, Size columns, Rows<const T> x, T shift, T low, T high, T* peak, Sums* sums) {
  constexpr Size one = FullVec<T>::size, block = side_by_side * one;
  const auto peak_from = [peak](Size c) { return peaks ? peak + c : nullptr; };
  Size c = 0;
  for (; c + block <= columns; c += block)
    column_sums<side_by_side, bounded, peaks>(rows, block, x.columns_from(c), shift, low, high, peak_from(c), sums);
  for (; c < columns; c += one)
    column_sums<1, bounded, peaks>(rows, columns - c, x.columns_from(c), shift, low, high, peak_from(c), sums);
}

template <class T>
void activation_sums(Size rows, Size columns, Rows<const T> x, T shift, T low, T high, T* peak, Sums* sums) {
  const bool bounded = !__builtin_isinf(low) || !__builtin_isinf(high);
  const auto of = bounded ? (peak ? activation_sums_of<true, true, T> : activation_sums_of<true, false, T>)
                          : (peak ? activation_sums_of<false, true, T> : activation_sums_of<false, false, T>);
  of(rows, columns, x, shift, low, high, peak, sums);
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
