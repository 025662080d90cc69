// The generator against its authors' test vectors; its distributions.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "chainrule/random.hpp"

using chainrule::Index;
using chainrule::Random;
using chainrule::shuffle;

namespace {

/// Philox 4×32-10 as in the paper, on a whole counter.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> x, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * x[0], b = 0xCD9E8D57ull * x[2];
    x = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return x;
}

/// The standard normal distribution function's inverse at p, by Newton's method.
long double normal_quantile(long double p, long double start) {
  const long double root_2 = std::sqrt(2.0L), root_2_pi = std::sqrt(2 * 3.14159265358979323846264338327950288L);
  long double x = start;
  for (int i = 0; i < 4; ++i) {
    const long double error = p < 0.5L ? std::erfc(-x / root_2) / 2 - p : (1 - p) - std::erfc(x / root_2) / 2;
    x -= error * root_2_pi * std::exp(x * x / 2);
  }
  return x;
}

}  // namespace

TEST_CASE("random: the authors' test vectors") {
  // From kat_vectors of Random123. The second and third check the copy above, at counters that Random starts far from.
  CHECK((philox({0, 0, 0, 0}, {0, 0}) == std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK((philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
         std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
         std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  Random random(0, 0);
  CHECK(random.bits() == 0xe169c58d6627e8d5ull);
  CHECK(random.bits() == 0x9b00dbd8bc57ac4cull);
}

TEST_CASE("random: bits of a seed and a stream are Philox's") {
  for (const std::uint64_t seed : {0ull, 1ull, 0x0123456789abcdefull, ~0ull})
    for (const std::uint64_t stream : {0ull, 1ull, 0x100000001ull, ~0ull}) {
      CAPTURE(seed);
      CAPTURE(stream);
      Random random(seed, stream);
      for (std::uint32_t counter = 0; counter < 20; ++counter) {
        const auto block =
            philox({counter, 0, static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
                   {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
        CHECK(random.bits() == (block[0] | std::uint64_t{block[1]} << 32));
        CHECK(random.bits() == (block[2] | std::uint64_t{block[3]} << 32));
      }
    }
}

TEST_CASE("random: uniform numbers are multiples of 2^-53 on [0, 1)") {
  Random random(3, 4), twin(3, 4);
  double sum = 0, squares = 0;
  const int n = 100000;
  bool right = true;
  for (int i = 0; i < n; ++i) {
    const double x = random.uniform();
    right = right && x >= 0 && x < 1 && x == static_cast<double>(twin.bits() >> 11) / 9007199254740992.0;
    sum += x;
    squares += x * x;
  }
  CHECK(right);
  // Four standard errors.
  CHECK(std::abs(sum / n - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / n));
}

TEST_CASE("random: normal numbers are the inverse of the distribution function to 1e-8") {
  Random random(5, 6), twin(5, 6);
  double sum = 0, squares = 0, cubes = 0, largest_error = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    const long double p = (static_cast<long double>(twin.bits() >> 11) + 0.5L) * 0x1p-53L;
    largest_error = std::max(largest_error, static_cast<double>(std::abs(normal_quantile(p, x) - x)));
    sum += x;
    squares += x * x;
    cubes += x * x * x;
  }
  CHECK(largest_error < 1e-8);
  CHECK(std::abs(sum / n) < 4 * std::sqrt(1.0 / n));
  CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2.0 / n));
  CHECK(std::abs(cubes / n) < 4 * std::sqrt(15.0 / n));
}

TEST_CASE("random: below n, every number as often") {
  for (const std::uint64_t n : {1ull, 2ull, 3ull, 7ull, 10ull}) {
    CAPTURE(n);
    Random random(7, n);
    std::vector<double> counts(n, 0);
    const double draws = 20000;
    bool inside = true;
    for (int i = 0; i < draws; ++i) {
      const std::uint64_t x = random.below(n);
      inside = inside && x < n;
      if (x < n) ++counts[x];
    }
    CHECK(inside);
    double chi_squared = 0;
    for (const double count : counts) chi_squared += (count - draws / n) * (count - draws / n) / (draws / n);
    // Mean n - 1, variance 2 (n - 1): five standard deviations.
    CHECK(chi_squared <= static_cast<double>(n - 1) + 5 * std::sqrt(2 * static_cast<double>(n - 1)));
  }
  // Where a plain remainder would double the chance of the lower half.
  Random random(8, 9);
  const std::uint64_t n = 3ull << 62;
  int low = 0;
  for (int i = 0; i < 3000; ++i) low += random.below(n) < (1ull << 62);
  CHECK(std::abs(low - 1000) < 130);
}

TEST_CASE("random: streams and seeds differ") {
  std::set<std::uint64_t> first;
  for (std::uint64_t seed = 0; seed < 30; ++seed)
    for (std::uint64_t stream = 0; stream < 30; ++stream) first.insert(Random(seed, stream).bits());
  CHECK(first.size() == 900);
}

TEST_CASE("random: a shuffle is a permutation, of its seed alone") {
  for (const std::size_t n : {0u, 1u, 2u, 3u, 100u}) {
    CAPTURE(n);
    std::vector<Index> order(n, -5), again(n, 77), sorted(n), expected(n);
    Random random(1, 2), twin(1, 2);
    shuffle(order, random);
    shuffle(again, twin);
    CHECK(order == again);
    sorted = order;
    std::sort(sorted.begin(), sorted.end());
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(sorted == expected);
    if (n == 100) CHECK(order != expected);
  }
}

TEST_CASE("random: every permutation of four is as likely") {
  Random random(10, 11);
  std::vector<int> counts(256, 0);
  std::vector<Index> order(4);
  const int draws = 24000;
  for (int i = 0; i < draws; ++i) {
    shuffle(order, random);
    ++counts[static_cast<std::size_t>(order[0] + 4 * order[1] + 16 * order[2] + 64 * order[3])];
  }
  CHECK(std::count_if(counts.begin(), counts.end(), [](int count) { return count > 0; }) == 24);
  double chi_squared = 0;
  for (const int count : counts)
    if (count > 0) chi_squared += (count - 1000.0) * (count - 1000.0) / 1000.0;
  CHECK(chi_squared < 23 + 5 * std::sqrt(46.0));
}
