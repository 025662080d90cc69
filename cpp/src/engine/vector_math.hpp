#pragma once

// Elementary functions on Vec<T, N>, for T = float and double and any N.
//
// No function branches on data: special arguments are handled by `select`, and all lanes cost the same. NaN gives NaN,
// signed zeros and denormal numbers are kept, and a result below the normal range is rounded once.
//
// The polynomials are minimax fits (Remez exchange in 60-digit arithmetic, weighted for the relative error of the
// result, then rounded to T). Beside each stands where it is valid and its error without rounding errors.
//
// Largest errors in ulps, with and without fused multiply-add, over all floats / over some 10^7 doubles a function:
//   exp 0.93/0.92, expm1 1.71/1.71, log 0.87/0.79, tanh 1.83/1.78 (1.28 by tables), sigmoid 2.41/2.41,
//   softplus 1.71/1.65, normal_cdf 3.88/3.53, normal_density 2.02/2.16.
//
// The translation unit contracts a*b + c to a fused multiply-add where there is one. Nothing below depends on it or is
// harmed by it: wherever a product must be exact, its factors are short enough.

#include "vector.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
  static constexpr int mantissa_bits = 23;
  static constexpr int exponent_bias = 127;
  static constexpr float round_magic = 0x1.8p23f;   // x + round_magic - round_magic rounds x to an integer
  static constexpr float exponent_magic = 0x1p23f;  // its low bits, or-ed with an integer k, make 2^23 + k
  static constexpr float smallest_normal = 0x1p-126f;
  static constexpr float infinity = __builtin_inff();
  static constexpr float nan = __builtin_nanf("");
  static constexpr float log2_e = 1.44269504f;
  static constexpr float ln2_high = 0x1.62e4p-1f;   // 15 bits: exact times any exponent
  static constexpr float ln2_low = 1.42860682e-6f;  // ln 2 - ln2_high
  static constexpr float sqrt_half = 0.707106781f;
  static constexpr float sqrt_two = 1.41421356f;
  static constexpr float inverse_sqrt_two_pi = 0.398942280f;

  static constexpr float exp_lowest = -104.0f;         // exp is below half of the smallest denormal number
  static constexpr float exp_highest = 89.0f;          // exp is beyond the largest number
  static constexpr float expm1_lowest = -18.0f;        // expm1 rounds to -1
  static constexpr float tanh_middle = 0.55f;          // tanh is 1/2
  static constexpr float tanh_highest = 9.5f;          // tanh rounds to 1
  static constexpr float normal_highest = 14.625f;     // the left tail is below half of the smallest denormal number
  static constexpr unsigned short_bits = 0xFFFFF000u;  // keeps 12 bits of the mantissa: squares are exact

  // (e^r - 1 - r) / r² for |r| <= ln(2)/2: e^r within 2^-27.9.
  static constexpr float exp_tail[] = {0.5f, 0.166665331f, 0.0416672453f, 0.00836753193f, 0.00138633233f};
  // The same, fitted for e^r - 1: within 2^-29.8.
  static constexpr float expm1_tail[] = {0.5f,           0.166666657f,   0.0416664816f,
                                         0.00833342038f, 0.00139333331f, 0.000198240989f};
  // (ln(1 + f) - f + f²/2) / f³ for 1 + f in [1/√2, √2]: ln(1 + f) within 2^-27.2.
  static constexpr float log_tail[] = {0.333333313f, -0.250008225f, 0.200012267f, -0.166232958f,
                                       0.142017096f, -0.131607726f, 0.127622351f, -0.0763367414f};
  // tanh(c + u) as a polynomial in u, on [0, 1/8) and from there on in halves of octaves, up to tanh_highest: within
  // 2^-24.3 (least squares for the relative error at Chebyshev's points, each coefficient rounded before the next is
  // fitted; tanh c is nearly a float). A segment's place is what its numbers' exponent and first bit are modulo 16, and
  // 7 for the first; two are never looked up.
  static constexpr unsigned tanh_first_segment = 247u;  // exponent and first bit of the numbers just below 1/8
  static constexpr float tanh_middles[16] = {
      2.49993682f,  3.49993134f,  5.00009823f,  6.99980927f,  8.74961853f,  8.74961853f,  8.74961853f, 0.0f,
      0.156254247f, 0.218745515f, 0.312489927f, 0.437508523f, 0.624986112f, 0.874995232f, 1.25002086f, 1.74999332f};
  static constexpr float tanh_segments[][16] = {
      {0.986612618f, 0.998177648f, 0.999909222f, 0.999998331f, 0.99999994f, 0.99999994f, 0.99999994f, 0.0f,
       0.154994875f, 0.215322062f, 0.302700579f, 0.411577135f, 0.554590106f, 0.703903198f, 0.84828949f, 0.941374779f},
      {0.0265956521f, 0.00364145497f, 0.000181825962f, 3.33251273e-06f, 1.0050497e-07f, 1.0050497e-07f, 1.0050497e-07f,
       1.0f, 0.975976586f, 0.953636408f, 0.908372343f, 0.830604255f, 0.692429841f, 0.504520297f, 0.280404836f,
       0.113813475f},
      {-0.0262393709f, -0.00363477413f, -0.000181648516f, -3.28761053e-06f, 3.23978213e-08f, 3.23978213e-08f,
       3.23978213e-08f, 0.0f, -0.151271492f, -0.20533897f, -0.274964958f, -0.341857761f, -0.384014696f, -0.355133474f,
       -0.237864539f, -0.107141137f},
      {0.0170194414f, 0.00241205585f, 0.000118796845f, 2.17762204e-06f, 6.69989149e-08f, 6.69989149e-08f,
       6.69989149e-08f, -0.333331376f, -0.301871598f, -0.273659527f, -0.219544992f, -0.136162132f, -0.0178483445f,
       0.0818027705f, 0.108324356f, 0.0629288033f},
      {-0.00805170368f, -0.00119771855f, -5.97816324e-05f, -1.18012065e-06f, -5.06011702e-07f, -5.06011702e-07f,
       -5.06011702e-07f, -0.000111384536f, 0.0975050405f, 0.127407014f, 0.158206865f, 0.170026377f, 0.137894377f,
       0.0608000085f, -0.0125891138f, -0.0235238038f},
      {0.00288780197f, 0.000490436854f, 2.84775469e-05f, 5.23041479e-07f, 1.40691609e-08f, 1.40691609e-08f,
       1.40691609e-08f, 0.13552697f, 0.101612009f, 0.0811086893f, 0.0429886766f, -0.00695945555f, -0.0542028807f,
       -0.0585019514f, -0.0196807161f, 0.00348285236f},
      {-0.000699028256f, -0.000157080693f, -9.21373248e-06f, -1.21574089e-07f, 4.75302443e-07f, 4.75302443e-07f,
       4.75302443e-07f, -0.0181207992f, -0.238220692f, -0.0903193802f, -0.0887879431f, -0.0671473444f, -0.0238372069f,
       0.0128527293f, 0.0151182367f, 0.00208883802f}};
  // (a + c) e^(a²/2) Φ(-a) in q = (a - k) / (a + k) for a in [0, 14.625]: within 2^-26.3.
  static constexpr float mills_c = 0.9013671875f;
  static constexpr float mills_k = 3.5f;
  static constexpr float mills_first = 0.46806407f;
  static constexpr float mills_rest[] = {-0.0792544335f,  -0.0116264857f,  0.0441267043f,   -0.0321389996f,
                                         0.0105387075f,   0.000415936578f, -0.00147194811f, 8.5106527e-05f,
                                         0.000206475554f, 2.94693891e-05f};
};

template <>
struct MathConstants<double> {
  static constexpr int mantissa_bits = 52;
  static constexpr int exponent_bias = 1023;
  static constexpr double round_magic = 0x1.8p52;
  static constexpr double exponent_magic = 0x1p52;
  static constexpr double smallest_normal = 0x1p-1022;
  static constexpr double infinity = __builtin_inf();
  static constexpr double nan = __builtin_nan("");
  static constexpr double log2_e = 1.4426950408889634074;
  static constexpr double ln2_high = 0x1.62e42fefa38p-1;  // 42 bits: exact times any exponent
  static constexpr double ln2_low = 5.4979230187083711747e-14;
  static constexpr double sqrt_half = 0.70710678118654752440;
  static constexpr double sqrt_two = 1.4142135623730950488;
  static constexpr double inverse_sqrt_two_pi = 0.39894228040143267794;

  static constexpr double exp_lowest = -746.0;
  static constexpr double exp_highest = 710.0;
  static constexpr double expm1_lowest = -38.0;
  static constexpr double tanh_middle = 0.55;
  static constexpr double tanh_highest = 19.5;
  static constexpr double normal_highest = 39.0;
  static constexpr unsigned long long short_bits = 0xFFFFFFFFF8000000ull;  // keeps 26 bits of the mantissa

  // As for float: e^r within 2^-57.2.
  static constexpr double exp_tail[] = {0.5,
                                        0.1666666666666643,
                                        0.0416666666666035,
                                        0.0083333333335012649,
                                        0.0013888888927004034,
                                        0.00019841269464154442,
                                        2.4801508395001216e-05,
                                        2.7557642043900469e-06,
                                        2.7625311064795004e-07,
                                        2.4978245291178771e-08};
  // e^r - 1 within 2^-59.0.
  static constexpr double expm1_tail[] = {0.5,
                                          0.16666666666666677,
                                          0.041666666666666574,
                                          0.0083333333333220783,
                                          0.0013888888888942724,
                                          0.00019841269885180485,
                                          2.4801587198447572e-05,
                                          2.7557245025657383e-06,
                                          2.7557386548735609e-07,
                                          2.5108789266368978e-08,
                                          2.0879157800738765e-09};
  // (ln((1 + s)/(1 - s)) / s - 2) / s² in s² for s = f / (2 + f), 1 + f in [1/√2, √2]: ln(1 + f) within 2^-58.9.
  static constexpr double log_tail[] = {0.66666666666667351, 0.39999999999412639, 0.28571428742882982,
                                        0.22222198518343039, 0.18183567374706139, 0.15313967697636821,
                                        0.14796825421614263};
  // As for float, for a in [0, 39]: within 2^-56.8.
  static constexpr double mills_c = 0.9111328125;
  static constexpr double mills_k = 6.0;
  static constexpr double mills_first = 0.44769844479893589;
  static constexpr double mills_rest[] = {
      -0.074077215094258284,   0.03040647739056225,     0.0029053726166233399,   -0.021191231091756989,
      0.025707665426214409,    -0.021453860847347402,   0.014033022034344244,    -0.0073635610765318991,
      0.0030257181608566459,   -0.00088502386310112017, 0.00011839000710846271,  3.9617364123402366e-05,
      -2.6840976426978928e-05, 4.3703845630310037e-06,  1.8477816119463878e-06,  -1.0101957028169467e-06,
      -6.4872512786827089e-09, 1.348742558212208e-07,   -1.9089414116178013e-08, -1.5925577384285664e-08,
      2.6958446186872796e-09,  1.5128302259540402e-09};
};

template <class T, int N>
struct VectorMath {
  using V = Vec<T, N>;
  using C = MathConstants<T>;
  using Bits = typename V::Bits;
  using Unsigned = typename IntegerOf<sizeof(T)>::unsigned_type;

  /// The bits of 2^e.
  static constexpr Unsigned power_bits(int e) {
    return static_cast<Unsigned>(e + C::exponent_bias) << C::mantissa_bits;
  }
  static CHAINRULE_INLINE Bits broadcast(Unsigned b) { return Bits{} + b; }

  /// c[0] + c[1] x + … by Estrin's rule, half by half: few operations wait for each other, and a processor does not see
  /// far enough ahead to fill the waits of Horner's rule with the next vector. `powers` are x, x², x⁴, …
  template <int Size>
  static CHAINRULE_INLINE V polynomial(V x, const T (&c)[Size]) {
    V powers[5] = {x};
#pragma GCC unroll 8
    for (int i = 1, power = 2; power < Size; ++i, power *= 2) powers[i] = powers[i - 1] * powers[i - 1];
    return part_of_polynomial<Size>(powers, c);
  }
  template <int Size>
  static CHAINRULE_INLINE V part_of_polynomial(const V* powers, const T* c) {
    if constexpr (Size == 1) return V(c[0]);
    if constexpr (Size > 1) {
      constexpr int half = Size > 16 ? 4 : Size > 8 ? 3 : Size > 4 ? 2 : Size > 2 ? 1 : 0;
      return fma(part_of_polynomial<Size - (1 << half)>(powers, c + (1 << half)), powers[half],
                 part_of_polynomial<1 << half>(powers, c));
    }
  }

  /// An integer n as number and, in the low bits of `shifted`, as two's complement.
  struct Rounded {
    V n;
    V shifted;
  };
  static CHAINRULE_INLINE Rounded round_scaled(V x, T factor) {
    const V shifted = fma(x, V(factor), V(C::round_magic));
    return {shifted - V(C::round_magic), shifted};
  }

  /// 2^(n + Offset), where that is a normal number.
  template <int Offset>
  static CHAINRULE_INLINE V power_of_two(Rounded k) {
    return V::from_bits((k.shifted.bits() << C::mantissa_bits) + broadcast(power_bits(Offset)));
  }

  /// p·2^n with one rounding, denormal results and infinity included. `AnySign` false: n <= 0.
  template <bool AnySign>
  static CHAINRULE_INLINE V scale(V p, Rounded k) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) * N == 64) {
      if constexpr (sizeof(T) == 4)
        return {(typename V::Native)_mm512_maskz_scalef_ps(0xFFFF, (__m512)p.v, (__m512)k.n.v)};
      else
        return {(typename V::Native)_mm512_maskz_scalef_pd(0xFF, (__m512d)p.v, (__m512d)k.n.v)};
    }
#endif
    // Two powers: the first product is exact, so that the result is rounded once.
    constexpr int up = C::exponent_bias / 2 + 1;
    constexpr int down = C::exponent_bias / 2;
    if constexpr (AnySign) {
      const auto positive = k.n > V(T{0});
      const V first = V::from_bits((k.shifted.bits() << C::mantissa_bits) +
                                   (positive ? broadcast(power_bits(-down)) : broadcast(power_bits(up))));
      const V second = V::from_bits(positive ? broadcast(power_bits(down)) : broadcast(power_bits(-up)));
      return p * first * second;
    } else {
      return p * power_of_two<up>(k) * V::from_bits(broadcast(power_bits(-up)));
    }
  }

  /// x - n ln 2 as an exact head (Cody and Waite: n·ln2_high is exact) and a small tail.
  struct Reduced {
    V head;
    V tail;
  };
  static CHAINRULE_INLINE Reduced reduce(V x, Rounded k) {
    return {fma(k.n, V(-C::ln2_high), x), k.n * V(-C::ln2_low)};
  }

  /// e^r - 1 = head + (tail + r² P(r)): the rounding error of r = head + tail reaches only the small terms.
  template <int Size>
  static CHAINRULE_INLINE V expm1_reduced(Reduced x, const T (&c)[Size]) {
    const V r = x.head + x.tail;
    return x.head + fma(r * r, polynomial(r, c), x.tail);
  }
  static CHAINRULE_INLINE V expm1_reduced(Reduced x) { return expm1_reduced(x, C::expm1_tail); }
  static CHAINRULE_INLINE V exp_reduced(Reduced x) { return V(T{1}) + expm1_reduced(x, C::exp_tail); }

  template <bool AnySign>
  static CHAINRULE_INLINE V exp(V x) {
    x = at_least(x, V(C::exp_lowest));
    if constexpr (AnySign) x = at_most(x, V(C::exp_highest));
    const Rounded k = round_scaled(x, C::log2_e);
    return scale<AnySign>(exp_reduced(reduce(x, k)), k);
  }

  /// k ln 2 + ln(1 + f) for 1 + f in [1/√2, √2].
  static CHAINRULE_INLINE V log_reduced(V f, V k) {
    const V half_square = V(T{0.5}) * f * f;
    V tail;
    if constexpr (sizeof(T) == 4) {
      tail = f * f * f * polynomial(f, C::log_tail);
    } else {
      const V s = f / (V(T{2}) + f);
      const V z = s * s;
      tail = s * (half_square + z * polynomial(z, C::log_tail));
    }
    return fma(k, V(C::ln2_high), f - (half_square - fma(k, V(C::ln2_low), tail)));
  }

  /// x = 2^k (1 + f) with 1 + f in [1/√2, √2], for positive normal x.
  struct Split {
    Bits biased_k;  // k + exponent_bias
    V k;
    V f;
  };
  static CHAINRULE_INLINE Split split(V x) {
    const Bits root = V(C::sqrt_half).bits();
    const Bits shifted = x.bits() - root + broadcast(power_bits(0));
    const Bits biased = shifted >> C::mantissa_bits;
    const Bits mantissa = (shifted & broadcast((Unsigned{1} << C::mantissa_bits) - 1)) + root;
    const V k = V::from_bits(biased | V(C::exponent_magic).bits()) - V(C::exponent_magic + C::exponent_bias);
    return {biased, k, V::from_bits(mantissa) - V(T{1})};
  }

  /// p e^(a²/2) Φ(-a) = p P((a - k)/(a + k)) / (a + c). P varies little, which keeps the error of its argument out, and
  /// its first coefficient, nearly all of it, is added last, which keeps that of the others out; the second division
  /// hides behind P and saves the roundings of a common denominator.
  static CHAINRULE_INLINE V mills(V a, V p) {
    // (a - k)/(a + k), in the form whose rounding error vanishes with a.
    const V q = (a + a) / (a + V(C::mills_k)) - V(T{1});
    return p * fma(q, polynomial(q, C::mills_rest), V(C::mills_first)) / (a + V(C::mills_c));
  }

  /// tanh a for 0 <= a <= tanh_highest.
  static CHAINRULE_INLINE V tanh_by_segments(V a) {
    const Bits segment = a.bits() >> (C::mantissa_bits - 1);
    const Bits place = segment > C::tanh_first_segment ? segment : broadcast(C::tanh_first_segment);
    const V u = a - V::looked_up(C::tanh_middles, place);
    constexpr int degree = sizeof C::tanh_segments / sizeof *C::tanh_segments - 1;
    V p = V::looked_up(C::tanh_segments[degree], place);
#pragma GCC unroll 8
    for (int i = degree - 1; i >= 0; --i) p = fma(p, u, V::looked_up(C::tanh_segments[i], place));
    return p;
  }

  /// e^(-a²/2) = p·2^n.
  struct Scaled {
    V p;
    Rounded k;
  };
  static CHAINRULE_INLINE Scaled gaussian(V a) {
    // a² in two parts, the first exact: its rounding error would be multiplied by a²/2 in the result.
    const V head = V::from_bits(a.bits() & broadcast(static_cast<Unsigned>(C::short_bits)));
    const V rest = (a - head) * (a + head);
    const Rounded k = round_scaled(a * a, T{-0.5} * C::log2_e);
    Reduced x = reduce(V(T{-0.5}) * (head * head), k);
    x.tail = fma(V(T{-0.5}), rest, x.tail);
    return {exp_reduced(x), k};
  }
};

/// e^x. x = n ln 2 + r with |r| <= ln(2)/2, e^x = 2^n (1 + r + r²/2 + r³ P(r)).
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> exp(Vec<T, N> x) {
  return VectorMath<T, N>::template exp<true>(x);
}

/// e^x - 1. x = n ln 2 + r, p = e^r - 1 by polynomial, 2^n (p + (1 - 2^-n)): the last bracket is exact.
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> expm1(Vec<T, N> x) {
  using M = VectorMath<T, N>;
  using C = MathConstants<T>;
  using V = Vec<T, N>;
  const V c = at_least(at_most(x, V(C::exp_highest)), V(C::expm1_lowest));
  const auto k = M::round_scaled(c, C::log2_e);
  // -n, no further than where 1 - 2^-n rounds to 1.
  const V minus_n = at_least(-k.n, V(T{-64}));
  const V inverse = M::template power_of_two<0>({minus_n, minus_n + V(C::round_magic)});
  const V y = M::template scale<true>(M::expm1_reduced(M::reduce(c, k)) + (V(T{1}) - inverse), k);
  return copysign(y, x);
}

/// ln x. x = 2^k (1 + f) with 1 + f in [1/√2, √2]; ln(1 + f) = f - f²/2 + f³ P(f), for double with s = f/(2 + f) and a
/// polynomial in s².
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> log(Vec<T, N> x) {
  using M = VectorMath<T, N>;
  using C = MathConstants<T>;
  using V = Vec<T, N>;
  const auto denormal = x < V(C::smallest_normal);
  const auto parts = M::split(select(denormal, x * V(C::exponent_magic), x));
  const V k = parts.k - select(denormal, V(static_cast<T>(C::mantissa_bits)), V(T{0}));
  V y = M::log_reduced(parts.f, k);
  y = select(x < V(C::infinity), y, x);
  return select(x > V(T{0}), y, select(x == V(T{0}), V(-C::infinity), x + V(C::nan)));
}

/// tanh x. Where a register can be a table, by a polynomial for each segment of |x|: no exponential, no division, and
/// 0.6 of the time. Elsewhere with t = e^(2|x|) - 1 = 2^n p + (2^n - 1): 1 - 2 / (t + 2) for large |x| and
/// t/2 - t/2 · t / (t + 2) for small, where the quotient's error counts little in either.
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> tanh(Vec<T, N> x) {
  using M = VectorMath<T, N>;
  using C = MathConstants<T>;
  using V = Vec<T, N>;
  const V a = at_most(abs(x), V(C::tanh_highest));
  if constexpr (V::has_tables) return copysign(M::tanh_by_segments(a), x);
  const V twice = a + a;
  const auto k = M::round_scaled(twice, C::log2_e);
  const V p = M::expm1_reduced(M::reduce(twice, k));
  const V s = M::template power_of_two<0>(k);
  const V t = fma(s, p, s - V(T{1}));
  const V d = fma(s, p, s + V(T{1}));
  const auto large = a > V(C::tanh_middle);
  const V numerator = select(large, V(T{2}), t), half = V(T{0.5}) * numerator;
  return copysign(half - half * (numerator / d), x);
}

/// The logistic function 1 / (1 + e^-x), as e / (1 + e) for x < 0 and 1 / (1 + e) otherwise, e = e^-|x|.
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> sigmoid(Vec<T, N> x) {
  using M = VectorMath<T, N>;
  using V = Vec<T, N>;
  const V one(T{1});
  const V e = M::template exp<false>(-abs(x));
  return select(x < V(T{0}), e, one) / (one + e);
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|): no overflow, and x itself where x is large.
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> softplus(Vec<T, N> x) {
  using M = VectorMath<T, N>;
  using C = MathConstants<T>;
  using V = Vec<T, N>;
  const V zero(T{0});
  const V half(T{0.5});
  const V e = M::template exp<false>(-abs(x));
  const auto large = e > V(C::sqrt_two - T{1});
  const V f = select(large, fma(e, half, -half), e);
  return select(x > zero, x, zero) + M::log_reduced(f, select(large, V(T{1}), zero));
}

template <class T, int N>
struct Normal {
  Vec<T, N> cdf;
  Vec<T, N> density;
};

/// Φ(z) and φ(z) together, for the price of about one: GELU' = Φ(z) + z φ(z).
template <class T, int N>
CHAINRULE_INLINE Normal<T, N> normal(Vec<T, N> z) {
  using M = VectorMath<T, N>;
  using C = MathConstants<T>;
  using V = Vec<T, N>;
  const V a = at_most(abs(z), V(C::normal_highest));
  const auto e = M::gaussian(a);
  const V tail = M::template scale<false>(M::mills(a, e.p), e.k);
  return {select(z > V(T{0}), V(T{1}) - tail, tail), M::template scale<false>(e.p * V(C::inverse_sqrt_two_pi), e.k)};
}

/// Φ(z) = ½ erfc(-z/√2), relatively accurate in the left tail. Φ(-a) = e^(-a²/2) G(a) with G(a) = P((a - k)/(a + k)) /
/// (a + c); the exponent is carried in two parts.
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> normal_cdf(Vec<T, N> z) {
  return normal(z).cdf;
}

/// φ(z) = e^(-z²/2) / √(2π).
template <class T, int N>
CHAINRULE_INLINE Vec<T, N> normal_density(Vec<T, N> z) {
  return normal(z).density;
}

}  // namespace chainrule::engine::CHAINRULE_ISA
