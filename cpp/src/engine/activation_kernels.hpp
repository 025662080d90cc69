#pragma once

#include "chainrule/activation.hpp"
#include "exponentials.hpp"
#include "row_registers.hpp"
#include "vector_math.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

// Flat, since GCC would call many of them for each register, whose constants then come from memory.

template <class A, class T>
[[gnu::flatten]] T activate(Size rows, Size columns, Rows<const T> z, Rows<T> a, T parameter) {
  return largest_of<T>(rows, columns, [&]<class At>(At at) __attribute__((always_inline)) {
    const auto zs = at.load(z), value = A::value(zs, decltype(zs)(parameter));
    at.store(value, a);
    return value;
  });
}

template <class A, class T>
[[gnu::flatten]] T times_derivative(Size rows, Size columns, Rows<const T> z, Rows<const T> a, Rows<T> delta,
                                    T parameter) {
  return largest_of<T>(rows, columns, [&]<class At>(At at) __attribute__((always_inline)) {
    const auto as = at.load(a);
    using V = std::remove_const_t<decltype(as)>;
    const V zs = A::needs_z ? at.load(z) : V(0);
    const V value = at.load(delta) * A::derivative(zs, as, V(parameter));
    at.store(value, delta);
    return value;
  });
}

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

}  // namespace chainrule::engine::CHAINRULE_ISA
