#pragma once

// A vector of N numbers in one register, on the compilers' vector extensions (GCC, Clang).
//
// This file is compiled once per instruction set, each time in a namespace of its own, so that the linker can never
// take code of one set for another. For the same reason nothing here may instantiate a template of the standard
// library or of Eigen.

#include <cstdint>

#include "range.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef CHAINRULE_ISA
#error "CHAINRULE_ISA names the namespace of the instruction set that this translation unit is compiled for"
#endif

namespace chainrule::engine::CHAINRULE_ISA {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
inline constexpr int vector_registers = 32;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
inline constexpr int vector_registers = 16;
#elif defined(__aarch64__)
inline constexpr int vector_bytes = 16;
inline constexpr int vector_registers = 32;
#else
inline constexpr int vector_bytes = 16;
inline constexpr int vector_registers = 16;
#endif

/// Numbers of type T in a full register.
template <class T>
inline constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <class T, int N>
struct NativeVector {
  typedef T type __attribute__((vector_size(sizeof(T) * N)));
  typedef T unaligned __attribute__((vector_size(sizeof(T) * N), aligned(alignof(T)), may_alias));
};
template <class T>
struct NativeVector<T, 1>;  // a single number is no vector

template <int Bytes>
struct IntegerOf;
template <>
struct IntegerOf<4> {
  using type = std::int32_t;
  using unsigned_type = std::uint32_t;
};
template <>
struct IntegerOf<8> {
  using type = std::int64_t;
  using unsigned_type = std::uint64_t;
};

template <int... I>
struct Ints {};
template <int N, int... I>
struct FirstInts : FirstInts<N - 1, N - 1, I...> {};
template <int... I>
struct FirstInts<0, I...> {
  using type = Ints<I...>;
};
/// 0, 1, … N - 1 as template arguments: std::make_integer_sequence, which must not be used here.
template <int N>
using Lanes = typename FirstInts<N>::type;

/// N numbers of type T. A comparison gives a `Mask`: all bits set where true.
template <class T, int N>
struct Vec {
  using Scalar = T;
  using Integer = typename IntegerOf<sizeof(T)>::type;
  using Native = typename NativeVector<T, N>::type;
  using Mask = typename NativeVector<Integer, N>::type;
  using Bits = typename NativeVector<typename IntegerOf<sizeof(T)>::unsigned_type, N>::type;
  static constexpr int size = N;

  Native v;

  Vec() = default;
  CHAINRULE_INLINE Vec(Native native) : v(native) {}
  // s - 0 and not s + 0: the latter loses the sign of -0.
  CHAINRULE_INLINE explicit Vec(T s) : v(s - Native{}) {}

  /// The numbers' representation as unsigned integers, and back.
  CHAINRULE_INLINE Bits bits() const { return (Bits)v; }
  static CHAINRULE_INLINE Vec from_bits(Bits bits) { return {(Native)bits}; }

  static CHAINRULE_INLINE Vec load(const T* p) {
    return {*reinterpret_cast<const typename NativeVector<T, N>::unaligned*>(p)};
  }
  CHAINRULE_INLINE void store(T* p) const { *reinterpret_cast<typename NativeVector<T, N>::unaligned*>(p) = v; }

  /// The first `count` numbers at p, zeros behind them; reads nothing beyond.
  static CHAINRULE_INLINE Vec load(const T* p, int count) {
    if (count >= N) return load(p);
#if defined(__AVX512VL__)
    if constexpr (sizeof(T) == 4) {
      const auto mask = static_cast<__mmask16>((1u << count) - 1u);
      if constexpr (N == 16) return {(Native)_mm512_maskz_loadu_ps(mask, p)};
      if constexpr (N == 8) return {(Native)_mm256_maskz_loadu_ps(static_cast<__mmask8>(mask), p)};
      if constexpr (N == 4) return {(Native)_mm_maskz_loadu_ps(static_cast<__mmask8>(mask), p)};
    } else {
      const auto mask = static_cast<__mmask8>((1u << count) - 1u);
      if constexpr (N == 8) return {(Native)_mm512_maskz_loadu_pd(mask, p)};
      if constexpr (N == 4) return {(Native)_mm256_maskz_loadu_pd(mask, p)};
      if constexpr (N == 2) return {(Native)_mm_maskz_loadu_pd(mask, p)};
    }
#else
    return load_parts(p, count);
#endif
  }

  /// Writes the first `count` numbers to p and nothing beyond.
  CHAINRULE_INLINE void store(T* p, int count) const {
    if (count >= N) return store(p);
#if defined(__AVX512VL__)
    if constexpr (sizeof(T) == 4) {
      const auto mask = static_cast<__mmask16>((1u << count) - 1u);
      if constexpr (N == 16) _mm512_mask_storeu_ps(p, mask, (__m512)v);
      if constexpr (N == 8) _mm256_mask_storeu_ps(p, static_cast<__mmask8>(mask), (__m256)v);
      if constexpr (N == 4) _mm_mask_storeu_ps(p, static_cast<__mmask8>(mask), (__m128)v);
    } else {
      const auto mask = static_cast<__mmask8>((1u << count) - 1u);
      if constexpr (N == 8) _mm512_mask_storeu_pd(p, mask, (__m512d)v);
      if constexpr (N == 4) _mm256_mask_storeu_pd(p, mask, (__m256d)v);
      if constexpr (N == 2) _mm_mask_storeu_pd(p, mask, (__m128d)v);
    }
#else
    store_parts(p, count);
#endif
  }

  // The same for count < N where there are no masks: by halves.
  static CHAINRULE_INLINE Vec load_parts(const T* p, int count) {
    if constexpr (N == 2) return {Native{count > 0 ? p[0] : T(0), T(0)}};
    if constexpr (N > 2) {
      using Half = Vec<T, N / 2>;
      const Half low = count >= N / 2 ? Half::load(p) : Half::load_parts(p, count);
      const Half high = count > N / 2 ? Half::load_parts(p + N / 2, count - N / 2) : Half(T(0));
      return join(low.v, high.v, Lanes<N>{});
    }
  }
  CHAINRULE_INLINE void store_parts(T* p, int count) const {
    if constexpr (N == 2) {
      if (count > 0) p[0] = v[0];
    } else {
      using Half = Vec<T, N / 2>;
      const Half low = half<0>(Lanes<N / 2>{}), high = half<N / 2>(Lanes<N / 2>{});
      if (count < N / 2) return low.store_parts(p, count);
      low.store(p);
      high.store_parts(p + N / 2, count - N / 2);
    }
  }
  template <int... I>
  static CHAINRULE_INLINE Vec join(auto low, auto high, Ints<I...>) {
    return {__builtin_shufflevector(low, high, I...)};
  }
  template <int First, int... I>
  CHAINRULE_INLINE Vec<T, N / 2> half(Ints<I...>) const {
    return {__builtin_shufflevector(v, v, (First + I)...)};
  }

  friend CHAINRULE_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend CHAINRULE_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend CHAINRULE_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend CHAINRULE_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  friend CHAINRULE_INLINE Vec operator-(Vec a) { return {-a.v}; }
  friend CHAINRULE_INLINE Mask operator<(Vec a, Vec b) { return a.v < b.v; }
  friend CHAINRULE_INLINE Mask operator>(Vec a, Vec b) { return a.v > b.v; }
  friend CHAINRULE_INLINE Mask operator==(Vec a, Vec b) { return a.v == b.v; }
  friend CHAINRULE_INLINE Mask operator!=(Vec a, Vec b) { return a.v != b.v; }
  CHAINRULE_INLINE Vec& operator+=(Vec b) { return *this = *this + b; }

  /// a where the mask is set, else b.
  friend CHAINRULE_INLINE Vec select(Mask mask, Vec a, Vec b) { return {mask ? a.v : b.v}; }

  /// a·b + c; one rounding where the instruction set has it (the translation unit contracts a*b + c).
  friend CHAINRULE_INLINE Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }

  /// a·b with a rounding of its own. Of a sum of two products the compiler would contract now the one, now the other,
  /// and the same numbers would not always give the same bits.
  friend CHAINRULE_INLINE Vec product(Vec a, Vec b) {
    Vec rounded = a * b;
#if defined(__x86_64__)
    asm("" : "+v"(rounded.v));
#elif defined(__aarch64__)
    asm("" : "+w"(rounded.v));
#endif
    return rounded;
  }

  friend CHAINRULE_INLINE Vec abs(Vec a) {
    constexpr auto sign = static_cast<Integer>(Integer{1} << (sizeof(T) * 8 - 1));
    return {(Native)((Mask)a.v & ~(Mask{} + sign))};
  }

  friend CHAINRULE_INLINE Vec copysign(Vec magnitude, Vec sign) {
    constexpr auto bit = static_cast<Integer>(Integer{1} << (sizeof(T) * 8 - 1));
    const Mask bits = Mask{} + bit;
    return {(Native)(((Mask)magnitude.v & ~bits) | ((Mask)sign.v & bits))};
  }

  /// x, or the limit where that is less; NaN stays NaN. One instruction, which GCC does not find.
  friend CHAINRULE_INLINE Vec at_most(Vec x, Vec limit) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) * N == 64) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm512_maskz_min_ps(0xFFFF, (__m512)limit.v, (__m512)x.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm512_maskz_min_pd(0xFF, (__m512d)limit.v, (__m512d)x.v)};
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(T) * N == 32) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm256_min_ps((__m256)limit.v, (__m256)x.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm256_min_pd((__m256d)limit.v, (__m256d)x.v)};
    }
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(T) * N == 16) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm_min_ps((__m128)limit.v, (__m128)x.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm_min_pd((__m128d)limit.v, (__m128d)x.v)};
    }
#endif
    return {limit.v < x.v ? limit.v : x.v};
  }
  /// x, or the limit where that is more; NaN stays NaN.
  friend CHAINRULE_INLINE Vec at_least(Vec x, Vec limit) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) * N == 64) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm512_maskz_max_ps(0xFFFF, (__m512)limit.v, (__m512)x.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm512_maskz_max_pd(0xFF, (__m512d)limit.v, (__m512d)x.v)};
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(T) * N == 32) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm256_max_ps((__m256)limit.v, (__m256)x.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm256_max_pd((__m256d)limit.v, (__m256d)x.v)};
    }
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(T) * N == 16) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm_max_ps((__m128)limit.v, (__m128)x.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm_max_pd((__m128d)limit.v, (__m128d)x.v)};
    }
#endif
    return {limit.v > x.v ? limit.v : x.v};
  }

  /// The larger; NaN if either is NaN.
  friend CHAINRULE_INLINE Vec max(Vec a, Vec b) { return select(a != a, a, at_least(b, a)); }
  friend CHAINRULE_INLINE Vec min(Vec a, Vec b) { return select(a != a, a, at_most(b, a)); }

  /// The larger of a magnitude and |x|; NaN if either is NaN. As integers, their representations are in that order.
  friend CHAINRULE_INLINE Vec larger_magnitude(Vec magnitude, Vec x) {
    const auto left = (Mask)magnitude.v, right = (Mask)abs(x).v;
    return {(Native)(left > right ? left : right)};
  }

  friend CHAINRULE_INLINE Vec sqrt(Vec a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) * N == 64) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm512_maskz_sqrt_ps(0xFFFF, (__m512)a.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm512_maskz_sqrt_pd(0xFF, (__m512d)a.v)};
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(T) * N == 32) {
      if constexpr (sizeof(T) == 4) return {(Native)_mm256_sqrt_ps((__m256)a.v)};
      if constexpr (sizeof(T) == 8) return {(Native)_mm256_sqrt_pd((__m256d)a.v)};
    }
#endif
    Native r;
    for (int i = 0; i < N; ++i) {
      if constexpr (sizeof(T) == 4)
        r[i] = __builtin_sqrtf(a.v[i]);
      else
        r[i] = __builtin_sqrt(a.v[i]);
    }
    return {r};
  }

  /// Whether a register or two can be a table of 16 numbers.
#if defined(__AVX512VL__)
  static constexpr bool has_tables = sizeof(T) == 4 && N >= 8;
  /// table[i modulo 16] for each lane's i.
  static CHAINRULE_INLINE Vec looked_up(const T (&table)[16], Bits i) {
    if constexpr (N == 16)
      return {(Native)_mm512_maskz_permutexvar_ps(0xFFFF, (__m512i)i, _mm512_loadu_ps(table))};
    else
      return {(Native)_mm256_permutex2var_ps(_mm256_loadu_ps(table), (__m256i)i, _mm256_loadu_ps(table + 8))};
  }
#else
  static constexpr bool has_tables = false;
#endif

  /// a_0 b_0 a_1 b_1 … of the lower half of the lanes.
  friend CHAINRULE_INLINE Vec interleave_low(Vec a, Vec b) { return interleave<0>(a, b, Lanes<N>{}); }
  /// The same of the upper half.
  friend CHAINRULE_INLINE Vec interleave_high(Vec a, Vec b) { return interleave<N / 2>(a, b, Lanes<N>{}); }
  template <int First, int... I>
  static CHAINRULE_INLINE Vec interleave(Vec a, Vec b, Ints<I...>) {
    return {__builtin_shufflevector(a.v, b.v, (First + I / 2 + (I % 2) * N)...)};
  }

  /// Lane i + Shift in lane i; the last lanes come round to the first.
  template <int Shift, int... I>
  static CHAINRULE_INLINE Vec rotate(Vec a, Ints<I...>) {
    return {__builtin_shufflevector(a.v, a.v, ((I + Shift) % N)...)};
  }
  template <int Half = N / 2>
  static CHAINRULE_INLINE Vec fold(Vec a, auto combine) {
    const Vec folded = combine(a, rotate<Half>(a, Lanes<N>{}));
    if constexpr (Half > 1)
      return fold<Half / 2>(folded, combine);
    else
      return folded;
  }

  /// The sum over the lanes, in every lane; by halves, in the same order on every machine.
  friend CHAINRULE_INLINE Vec sum(Vec a) {
    return fold(a, [](Vec x, Vec y) { return x + y; });
  }
  /// The largest lane, in every lane; NaN if any is NaN.
  friend CHAINRULE_INLINE Vec largest(Vec a) {
    return fold(a, [](Vec x, Vec y) { return max(x, y); });
  }
  CHAINRULE_INLINE T first_lane() const { return v[0]; }

  /// In lane i all lanes of rows[i] together, in the order of `fold`. Rows i and i + N/2 come to share a register, log₂
  /// N times over, until each row has one lane.
  static CHAINRULE_INLINE Vec fold_rows(const Vec (&rows)[N], auto combine) {
    Vec r[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) r[i] = rows[i];
#pragma GCC unroll 4
    for (int half = N / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int i = 0; i < half; ++i)
        r[i] = combine(interleave_low(r[i], r[i + half]), interleave_high(r[i], r[i + half]));
    return r[0];
  }
  /// `sum` and `largest` of each row, that of rows[i] in lane i.
  friend CHAINRULE_INLINE Vec sums(const Vec (&rows)[N]) {
    return fold_rows(rows, [](Vec x, Vec y) { return x + y; });
  }
  friend CHAINRULE_INLINE Vec largest(const Vec (&rows)[N]) {
    return fold_rows(rows, [](Vec x, Vec y) { return max(x, y); });
  }

  /// All bits set in the first `count` lanes.
  static CHAINRULE_INLINE Mask first(int count) {
    Mask index;
    for (int i = 0; i < N; ++i) index[i] = i;
    return index < (Mask{} + static_cast<Integer>(count));
  }
};

/// A full register of T, and half of one where that is not less than 16 bytes.
template <class T>
using FullVec = Vec<T, lanes<T>>;
template <class T>
using HalfVec = Vec<T, vector_bytes >= 32 ? lanes<T> / 2 : lanes<T>>;

}  // namespace chainrule::engine::CHAINRULE_ISA
