#pragma once

// What several tests need: numbers to test with, and ways to compare.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "chainrule/threads.hpp"
#include "chainrule/trainer.hpp"
#include "reference.hpp"

namespace support {

using chainrule::Activation;
using chainrule::ConstVectorView;
using chainrule::Index;
using chainrule::Loss;
using chainrule::Matrix;
using chainrule::Network;
using chainrule::Samples;
using chainrule::Targets;
using chainrule::Vector;
using chainrule::VectorView;

/// The same numbers everywhere: the distributions of the standard library differ from one to another.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }
  Index below(Index n) { return static_cast<Index>(engine_() % static_cast<std::uint64_t>(n)); }

  template <class T>
  Matrix<T> matrix(Index rows, Index columns, double low = -1, double high = 1) {
    return Matrix<T>::NullaryExpr(rows, columns, [&] { return static_cast<T>(uniform(low, high)); });
  }
  template <class T>
  Vector<T> vector(Index size, double low = -1, double high = 1) {
    return Vector<T>::NullaryExpr(size, [&] { return static_cast<T>(uniform(low, high)); });
  }

 private:
  std::mt19937_64 engine_;
};

/// Puts the number of threads back.
struct KeepThreads {
  int before = chainrule::num_threads();
  ~KeepThreads() { chainrule::set_num_threads(before); }
};

/// ‖ours - exact‖ / ‖exact‖; NaN, which no comparison accepts, where the shapes differ.
double relative_error(const Eigen::MatrixXd& ours, const Eigen::MatrixXd& exact);
template <class Ours, class Exact>
double relative_error(const Ours& ours, const Exact& exact) {
  return relative_error(Eigen::MatrixXd(ours.template cast<double>()), Eigen::MatrixXd(exact.template cast<double>()));
}

/// Of a whole pass, relative to the norm of what is compared: 1.1e-13 in double. Sums that cancel in narrow layers cost
/// two digits; the kernels' own tests are stricter.
template <class T>
inline constexpr double tolerance = 512 * std::numeric_limits<T>::epsilon();

/// What `predict` gives.
template <class T>
Matrix<T> outputs(const Network<T>& network, const Matrix<T>& X) {
  Matrix<T> output(X.rows(), network.outputs());
  predict<T>(network, X, output.data());
  return output;
}

/// Whether two matrices or vectors hold the same bits.
template <class A, class B>
bool same_bits(const A& left, const B& right) {
  if (left.rows() != right.rows() || left.cols() != right.cols()) return false;
  for (Index i = 0; i < left.rows(); ++i)
    for (Index j = 0; j < left.cols(); ++j) {
      const auto a = left(i, j), b = right(i, j);
      static_assert(std::is_same_v<decltype(a), decltype(b)>);
      if (std::memcmp(&a, &b, sizeof a) != 0) return false;
    }
  return true;
}

/// FNV-1a
inline std::uint64_t hash_bytes(const void* data, std::size_t size) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3;
  return hash;
}

template <class T>
std::uint64_t hash(const Network<T>& network) {
  return hash_bytes(network.parameters().data(), static_cast<std::size_t>(network.parameter_count()) * sizeof(T));
}

/// The relative error, by norm, of `gradient` against central differences of f at θ. Differences have rounding errors
/// of their own: below a norm of 0.01 the error is relative to that.
double check_gradient(const std::function<double(const Eigen::VectorXd&)>& f, Eigen::VectorXd theta,
                      const Eigen::VectorXd& gradient, double h = 1e-5);

/// A network with samples for it.
template <class T>
struct Problem {
  Network<T> network;
  Loss loss;
  Matrix<T> X, y;                    // y as the caller gives it: (n, t)
  std::vector<std::int64_t> labels;  // for the cross-entropy; else empty
  Vector<T> weight;                  // or empty

  Targets<T> targets() const {
    if (!labels.empty()) return {labels.data(), static_cast<Index>(labels.size())};
    return {y};
  }
  const T* weights() const { return weight.size() > 0 ? weight.data() : nullptr; }
  Samples<T> samples() const { return {X, targets(), weights()}; }
  chainrule::Batch<T> batch() const { return {samples(), X.rows()}; }

  Eigen::MatrixXd dense_target() const;  // y as the loss sees it: (n, d_L)
  Eigen::VectorXd dense_weight() const;
  reference::Pass reference() const;  // the textbook's forward and backward pass
};

struct Shape {
  std::vector<Index> units;  // d_0 … d_L
  Index rows;
  bool weighted = false;
};

/// One that stays `margin` away from every kink, so that it has but one right gradient.
template <class T>
Problem<T> make_problem(const Shape& shape, const std::vector<Activation>& activations, const Loss& loss,
                        std::uint64_t seed, double margin = 50 * std::numeric_limits<T>::epsilon());

extern template struct Problem<float>;
extern template struct Problem<double>;

std::vector<Activation> all_activations();
std::vector<Activation> hidden_activations();
std::vector<Loss> all_losses();
/// The output activations that a loss may follow.
std::vector<Activation> output_activations(const Loss& loss);
/// All rules, with and without each of their settings.
std::vector<chainrule::Rule> all_rules();

}  // namespace support
