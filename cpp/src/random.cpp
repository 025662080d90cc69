#include "chainrule/random.hpp"

#include <cmath>
#include <utility>

namespace chainrule {

namespace {

std::array<std::uint64_t, 2> philox(std::uint64_t counter, std::uint64_t stream, std::uint64_t seed) {
  std::uint32_t x[4] = {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
                        static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * x[0], b = std::uint64_t{0xCD9E8D57} * x[2];
    const std::uint32_t next[4] = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ key[0], static_cast<std::uint32_t>(b),
                                   static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ key[1], static_cast<std::uint32_t>(a)};
    for (int i = 0; i < 4; ++i) x[i] = next[i];
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return {x[0] | std::uint64_t{x[1]} << 32, x[2] | std::uint64_t{x[3]} << 32};
}

/// ln x for x in (0, 1), to 1e-15, by operations that round alike everywhere (the C library's log does not): with
/// x = m 2^e and s = (m - 1)/(m + 1), ln x = e ln 2 + 2 (s + s³/3 + s⁵/5 + …).
double portable_log(double x) {
  int exponent;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double series = 0;
  for (int k = 27; k >= 1; k -= 2) series = series * s2 + 1.0 / k;
  return exponent * 0.69314718055994531 + 2 * s * series;
}

double horner(double x, std::initializer_list<double> coefficients) {
  double sum = 0;
  for (const double c : coefficients) sum = sum * x + c;
  return sum;
}

/// Φ⁻¹(p), to 1e-9 at least: far finer than any use of a random weight.  Acklam's rational approximation.
double normal_quantile(double p) {
  const auto tail = [](double q) {
    return horner(q, {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00, -2.549732539343734e+00,
                      4.374664141464968e+00, 2.938163982698783e+00}) /
           horner(q, {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00, 1.0});
  };
  if (p < 0.02425) return tail(std::sqrt(-2 * portable_log(p)));
  if (p > 1 - 0.02425) return -tail(std::sqrt(-2 * portable_log(1 - p)));
  const double q = p - 0.5, r = q * q;
  return q *
         horner(r, {-3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02, 1.383577518672690e+02,
                    -3.066479806614716e+01, 2.506628277459239e+00}) /
         horner(r, {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02, 6.680131188771972e+01,
                    -1.328068155288572e+01, 1.0});
}

}  // namespace

std::uint64_t Random::bits() {
  if (left_ == 0) {
    block_ = philox(counter_++, stream_, seed_);
    left_ = 2;
  }
  return block_[static_cast<std::size_t>(2 - left_--)];
}

double Random::uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

double Random::normal() {
  // The middle of one of 2⁵³ intervals: never 0 or 1.
  return normal_quantile((static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53);
}

std::uint64_t Random::below(std::uint64_t n) {
  const std::uint64_t rest = (0 - n) % n;  // 2⁶⁴ mod n: so many numbers would make some results more likely
  for (;;) {
    const std::uint64_t x = bits();
    if (x >= rest) return x % n;
  }
}

void shuffle(std::vector<Index>& order, Random& random) {
  const auto n = static_cast<Index>(order.size());
  for (Index i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  for (Index i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(random.below(static_cast<std::uint64_t>(i) + 1))]);
}

}  // namespace chainrule
