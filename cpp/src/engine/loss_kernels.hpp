#pragma once

#include "chainrule/loss.hpp"
#include "exponentials.hpp"
#include "row_registers.hpp"
#include "vector_math.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

/// A sample without weight says nothing, however steep its loss is.
template <class V>
CHAINRULE_INLINE V weighted(V weight, V slope) {
  return select(weight == V(0), V(0), weight * slope);
}

template <class L, class V>
CHAINRULE_INLINE V weighted_slope(V weight, V x, V y, V parameter) {
  if constexpr (L::from_logits)
    return weighted(weight, L::link(x) - y);
  else
    return weighted(weight, L::derivative(x, y, parameter));
}

template <class L, class T>
void loss_of_column(Size rows, Rows<const T> x, Rows<const T> y, T parameter, const T* weight, double* row_loss,
                    Rows<T> delta) {
  using V = FullVec<T>;
  over_column<V>(rows, [&](OfColumn<V> at) __attribute__((always_inline)) {
    const V xs = at.load(x), ys = at.load(y), p = V(parameter);
    T values[V::size];
    L::value(xs, ys, p).store(values);
    for (Size i = 0; i < at.count; ++i) row_loss[at.r + i] = static_cast<double>(values[i]);
    if (delta.data) at.store(weighted_slope<L>(V::load(weight + at.r, static_cast<int>(at.count)), xs, ys, p), delta);
  });
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
        if (delta.data) weighted_slope<L>(factor, xs, ys, p).store(delta.row(r) + c);
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
          weighted(factor, V::load(to + c) * share - V::load(y.row(first + i) + c)).store(to + c);
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

}  // namespace chainrule::engine::CHAINRULE_ISA
