// The elementary functions of every instruction set against the standard library's in a wider type, in ulps.

#include <doctest/doctest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "engine/math_table.hpp"

namespace {

using chainrule::engine::math_tables;
using chainrule::engine::MathTable;

template <class T>
using Reference = std::conditional_t<std::is_same_v<T, float>, double, long double>;

// erfc at -z/√2 and e^(-z²/2), corrected for what rounding makes of their arguments: both are steep.
template <class R>
R reference_normal_cdf(R z) {
  if (std::fabs(z) > 60) return z > 0 ? R{1} : R{0};
  if (z == 0) return R{0.5};
  const R t = -z * static_cast<R>(0.707106781186547524400844362104849039L);
  const R square = t * t;
  const R missing = (std::fma(z, z, -2 * square) - 2 * std::fma(t, t, -square)) / (4 * t);
  const R two_by_root_pi = static_cast<R>(1.12837916709551257389615890312154517L);
  return (std::erfc(t) - two_by_root_pi * std::exp(-square) * missing) / 2;
}

template <class R>
R reference_normal_density(R z) {
  if (std::fabs(z) > 60) return R{0};
  const R square = z * z;
  const R missing = std::fma(z, z, -square);
  return std::exp(-square / 2) * (1 - missing / 2) * static_cast<R>(0.398942280401432677939946059934381868L);
}

template <class R>
R reference_sigmoid(R x) {
  const R e = std::exp(-std::fabs(x));
  return (x < 0 ? e : R{1}) / (1 + e);
}

template <class R>
R reference_softplus(R x) {
  return (x > 0 ? x : R{0}) + std::log1p(std::exp(-std::fabs(x)));
}

template <class T>
struct Function {
  std::string name;
  typename MathTable<T>::Function MathTable<T>::* entry;
  Reference<T> (*reference)(Reference<T>);
  double bound;  // ulps
};

template <class T>
const std::vector<Function<T>>& functions() {
  using R = Reference<T>;
  using M = MathTable<T>;
  static const std::vector<Function<T>> all{
      {"exp", &M::exp, [](R x) { return std::exp(x); }, 1.0},
      {"expm1", &M::expm1, [](R x) { return std::expm1(x); }, 2.0},
      {"log", &M::log, [](R x) { return std::log(x); }, 1.0},
      {"tanh", &M::tanh, [](R x) { return std::tanh(x); }, 2.0},
      {"sigmoid", &M::sigmoid, &reference_sigmoid<R>, 3.0},
      {"softplus", &M::softplus, &reference_softplus<R>, 2.0},
      {"normal_cdf", &M::normal_cdf, &reference_normal_cdf<R>, 4.0},
      {"normal_density", &M::normal_density, &reference_normal_density<R>, 3.0},
  };
  return all;
}

// Where long double is no wider than double, the reference has an error of its own.
template <class T>
constexpr double reference_error =
    std::numeric_limits<Reference<T>>::digits > std::numeric_limits<T>::digits ? 0.01 : 2;

constexpr double wrong = 1e9;  // a NaN, an infinity or a sign that should not be there, or is missing

/// |y - exact| in units of the last place that a T near `exact` has; 0 for the correctly rounded result.
template <class T>
double ulps(T y, Reference<T> exact) {
  using R = Reference<T>;
  using Limits = std::numeric_limits<T>;
  const T rounded = static_cast<T>(exact);
  if (rounded == y) return std::signbit(rounded) == std::signbit(y) ? 0 : wrong;
  if (std::isnan(exact) || std::isnan(y)) return std::isnan(exact) && std::isnan(y) ? 0 : wrong;
  if (std::isinf(exact) || (exact == 0)) return wrong;
  const R value = std::isinf(y) ? std::copysign(std::ldexp(R{1}, Limits::max_exponent), static_cast<R>(y)) : R{y};
  const int exponent = std::max(std::ilogb(exact) + 1, Limits::min_exponent) - Limits::digits;
  return static_cast<double>(std::ldexp(std::fabs(value - exact), -exponent));
}

template <class T>
T from_bits(std::uint64_t bits) {
  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t> word = static_cast<decltype(word)>(bits);
  T x;
  std::memcpy(&x, &word, sizeof x);
  return x;
}

template <class T>
void add_neighbours(std::vector<T>& points, T x) {
  T below = x;
  T above = x;
  for (int i = 0; i < 4; ++i) {
    points.insert(points.end(), {below, above, -below, -above});
    below = std::nextafter(below, -std::numeric_limits<T>::infinity());
    above = std::nextafter(above, std::numeric_limits<T>::infinity());
  }
}

/// Special values, the neighbourhoods of all thresholds and of the halfway points of the reduction by ln 2, all bit
/// patterns at even steps, and random numbers of the scales that matter.
template <class T>
std::vector<T> sample() {
  using Limits = std::numeric_limits<T>;
  std::vector<T> points{Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()};
  for (T x : {T{0}, Limits::denorm_min(), Limits::min(), Limits::max(), T{1}, T{2}, Limits::epsilon(), T(0.55), T(0.8),
              T(1.41421356237309505L), T(0.70710678118654752L), T(0.41421356237309505L), T(0.29289321881345248L)})
    add_neighbours(points, x);
  const bool single = sizeof(T) == 4;
  for (T x : {T(9.5), T(19.5), T(18), T(38), T(4.25), T(6), T(14.625), T(39), T(14.17), T(38.48)})
    add_neighbours(points, x);
  // Overflow, the first denormal result, the last result above zero.
  for (T x : single ? std::vector<T>{T(88.72283905L), T(87.33654475L), T(103.97207708L)}
                    : std::vector<T>{T(709.78271289338399673L), T(708.39641853226410622L), T(745.13321910194110842L)})
    add_neighbours(points, x);
  for (int k = 0; k < (single ? 300 : 2200); ++k)
    add_neighbours(points, static_cast<T>((k + 0.5) * 0.34657359027997265471L));
  for (int e = Limits::min_exponent - Limits::digits; e < Limits::max_exponent; ++e) {
    add_neighbours(points, std::ldexp(T{1}, e));
    add_neighbours(points, std::ldexp(T(1.41421356237309505L), e));
    add_neighbours(points, std::ldexp(T(1.5), e));
  }
  const std::uint64_t step = single ? 65521 : 281474976710597ull;
  for (std::uint64_t i = 0; i < 65536; ++i) points.push_back(from_bits<T>(i * step));

  std::mt19937_64 random(1);
  const auto uniform = [&random](T low, T high) {
    return low + (high - low) * static_cast<T>(static_cast<double>(random() >> 11) * 0x1p-53);
  };
  const T widest = single ? T(110) : T(760);
  for (int i = 0; i < 12000; ++i) {
    for (T range : {T(0.5), T(1), T(3), T(14), T(40), widest}) points.push_back(uniform(-range, range));
    points.push_back(T(1) + uniform(T(-0.5), T(0.5)) * std::ldexp(T{1}, -static_cast<int>(random() % Limits::digits)));
  }
  return points;
}

template <class T>
void check_accuracy() {
  const std::vector<T> points = sample<T>();
  std::vector<T> results(points.size());
  std::vector<Reference<T>> exact(points.size());
  for (const auto& function : functions<T>()) {
    CAPTURE(function.name);
    std::transform(points.begin(), points.end(), exact.begin(),
                   [&](T x) { return function.reference(static_cast<Reference<T>>(x)); });
    for (const auto& entry : math_tables<T>()) {
      const MathTable<T>* table = entry.second;
      CAPTURE(entry.first);
      (table->*function.entry)(points.data(), results.data(), static_cast<std::ptrdiff_t>(points.size()));
      double largest = 0;
      T where = 0;
      for (std::size_t i = 0; i < points.size(); ++i) {
        const double error = ulps(results[i], exact[i]);
        if (error > largest) {
          largest = error;
          where = points[i];
        }
      }
      CAPTURE(where);
      CHECK(largest <= function.bound + reference_error<T>);
    }
  }
}

template <class T>
T call(const MathTable<T>& table, typename MathTable<T>::Function MathTable<T>::* entry, T x) {
  T y;
  (table.*entry)(&x, &y, 1);
  return y;
}

/// Equal, and of the same sign if zero.
template <class T>
bool same(T a, T b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

}  // namespace

TEST_CASE_TEMPLATE("vector functions: at least one instruction set", T, float, double) {
  CHECK(!math_tables<T>().empty());
}

TEST_CASE("vector functions: accuracy, float") { check_accuracy<float>(); }

TEST_CASE("vector functions: accuracy, double") { check_accuracy<double>(); }

TEST_CASE_TEMPLATE("vector functions: special values are exact", T, float, double) {
  using M = MathTable<T>;
  using Limits = std::numeric_limits<T>;
  const T infinity = Limits::infinity();
  const T nan = Limits::quiet_NaN();
  const T tiny = Limits::denorm_min();
  const T most = Limits::max();
  struct Case {
    std::string name;
    typename M::Function M::* entry;
    T x;
    T y;
  };
  const std::vector<Case> cases{
      {"exp", &M::exp, -infinity, T{0}},
      {"exp", &M::exp, infinity, infinity},
      {"exp", &M::exp, most, infinity},
      {"exp", &M::exp, -most, T{0}},
      {"exp", &M::exp, T{0}, T{1}},
      {"exp", &M::exp, -T{0}, T{1}},
      {"expm1", &M::expm1, -infinity, T{-1}},
      {"expm1", &M::expm1, infinity, infinity},
      {"expm1", &M::expm1, T{0}, T{0}},
      {"expm1", &M::expm1, -T{0}, -T{0}},
      {"expm1", &M::expm1, tiny, tiny},
      {"expm1", &M::expm1, -tiny, -tiny},
      {"log", &M::log, T{0}, -infinity},
      {"log", &M::log, -T{0}, -infinity},
      {"log", &M::log, T{1}, T{0}},
      {"log", &M::log, T{-1}, nan},
      {"log", &M::log, -tiny, nan},
      {"log", &M::log, -infinity, nan},
      {"log", &M::log, infinity, infinity},
      {"tanh", &M::tanh, infinity, T{1}},
      {"tanh", &M::tanh, -infinity, T{-1}},
      {"tanh", &M::tanh, most, T{1}},
      {"tanh", &M::tanh, T{0}, T{0}},
      {"tanh", &M::tanh, -T{0}, -T{0}},
      {"tanh", &M::tanh, tiny, tiny},
      {"tanh", &M::tanh, -tiny, -tiny},
      {"sigmoid", &M::sigmoid, infinity, T{1}},
      {"sigmoid", &M::sigmoid, -infinity, T{0}},
      {"sigmoid", &M::sigmoid, -most, T{0}},
      {"sigmoid", &M::sigmoid, T{0}, T(0.5)},
      {"softplus", &M::softplus, infinity, infinity},
      {"softplus", &M::softplus, -infinity, T{0}},
      {"softplus", &M::softplus, most, most},
      {"softplus", &M::softplus, -most, T{0}},
      {"softplus", &M::softplus, T{100}, T{100}},
      {"normal_cdf", &M::normal_cdf, infinity, T{1}},
      {"normal_cdf", &M::normal_cdf, -infinity, T{0}},
      {"normal_density", &M::normal_density, infinity, T{0}},
      {"normal_density", &M::normal_density, -infinity, T{0}},
  };
  for (const auto& entry : math_tables<T>()) {
    const MathTable<T>* table = entry.second;
    CAPTURE(entry.first);
    for (const Case& c : cases) {
      CAPTURE(c.name);
      CAPTURE(c.x);
      const T y = call(*table, c.entry, c.x);
      CAPTURE(y);
      CHECK(same(y, c.y));
    }
    for (const auto& function : functions<T>()) {
      CAPTURE(function.name);
      CHECK(std::isnan(call(*table, function.entry, nan)));
      CHECK(std::isnan(call(*table, function.entry, -nan)));
    }
  }
}

TEST_CASE_TEMPLATE("vector functions: a number's result does not depend on its place, nor on its neighbours", T, float,
                   double) {
  constexpr int longest = 70;
  std::vector<T> points;
  for (int i = 0; i < longest; ++i) points.push_back(static_cast<T>(0.37 * i - 9));
  points[5] = std::numeric_limits<T>::quiet_NaN();
  points[17] = std::numeric_limits<T>::infinity();
  points[40] = -std::numeric_limits<T>::infinity();
  for (const auto& entry : math_tables<T>()) {
    const MathTable<T>* table = entry.second;
    CAPTURE(entry.first);
    for (const auto& function : functions<T>()) {
      CAPTURE(function.name);
      std::vector<T> single(longest);
      for (int i = 0; i < longest; ++i) single[i] = call(*table, function.entry, points[i]);
      for (int n = 0; n <= longest; ++n) {
        CAPTURE(n);
        std::vector<T> in_place(points.begin(), points.end());
        (table->*function.entry)(in_place.data(), in_place.data(), n);
        bool equal = true;
        for (int i = 0; i < longest; ++i) equal = equal && same(in_place[i], i < n ? single[i] : points[i]);
        CHECK(equal);
      }
    }
  }
}

TEST_SUITE_BEGIN("long");

TEST_CASE("vector functions: accuracy over all floats" * doctest::skip(true)) {
  struct Largest {
    double error = 0;
    float where = 0;
  };
  const auto tables = math_tables<float>();
  const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  constexpr std::uint64_t count = std::uint64_t{1} << 32;
  constexpr std::uint64_t block = 1 << 14;
  for (const auto& function : functions<float>()) {
    std::vector<std::vector<Largest>> found(threads, std::vector<Largest>(tables.size()));
    const auto work = [&](unsigned thread) {
      std::vector<float> points(block);
      std::vector<float> results(block);
      std::vector<double> exact(block);
      for (std::uint64_t start = thread * block; start < count; start += threads * block) {
        for (std::uint64_t i = 0; i < block; ++i) {
          points[i] = from_bits<float>(start + i);
          exact[i] = function.reference(static_cast<double>(points[i]));
        }
        for (std::size_t t = 0; t < tables.size(); ++t) {
          (tables[t].second->*function.entry)(points.data(), results.data(), block);
          Largest& largest = found[thread][t];
          for (std::uint64_t i = 0; i < block; ++i) {
            const double error = ulps(results[i], exact[i]);
            if (error > largest.error) largest = {error, points[i]};
          }
        }
      }
    };
    std::vector<std::thread> pool;
    for (unsigned thread = 0; thread < threads; ++thread) pool.emplace_back(work, thread);
    for (std::thread& thread : pool) thread.join();
    for (std::size_t t = 0; t < tables.size(); ++t) {
      Largest largest;
      for (const auto& one : found)
        if (one[t].error > largest.error) largest = one[t];
      MESSAGE(function.name, " ", tables[t].first, ": ", largest.error, " ulps at ", largest.where);
      CHECK(largest.error <= function.bound);
    }
  }
}

TEST_SUITE_END();
