#pragma once

#include "row_registers.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

// Lanes sum up runs of this many registers in T, so that the rounding error stays near T's own, and the runs are
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

}  // namespace chainrule::engine::CHAINRULE_ISA
