#pragma once

#include "chainrule/rule.hpp"
#include "sum_kernels.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

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

}  // namespace chainrule::engine::CHAINRULE_ISA
