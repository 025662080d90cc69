#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "chainrule/matrix.hpp"

namespace chainrule {

/// A counter-based generator: the i-th number of a (seed, stream) is the same on every platform.
///
/// Philox 4×32-10, Salmon et al. 2011.
class Random {
 public:
  /// Starts behind the first `counter` pairs of `bits`.
  Random(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter = 0)
      : seed_(seed), stream_(stream), counter_(counter) {}

  std::uint64_t bits();
  /// On [0, 1), a multiple of 2⁻⁵³.
  double uniform();
  /// N(0, 1), by inversion of the distribution function.
  double normal();
  /// On {0, …, n - 1}, without bias.
  std::uint64_t below(std::uint64_t n);

 private:
  std::uint64_t seed_, stream_;
  std::uint64_t counter_;
  std::array<std::uint64_t, 2> block_{};
  int left_ = 0;
};

/// Fills `order` with a random permutation of 0 … n-1 (Fisher & Yates).
void shuffle(std::vector<Index>& order, Random& random);

}  // namespace chainrule
