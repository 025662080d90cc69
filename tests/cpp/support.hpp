#pragma once

// What several tests need: numbers to test with, and ways to compare.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "chainrule/backprop.hpp"
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

/// ‖ours - exact‖ / ‖exact‖; NaN, which no comparison accepts, where the shapes differ.
template <class Ours, class Exact>
double relative_error(const Ours& ours, const Exact& exact) {
  if (ours.rows() != exact.rows() || ours.cols() != exact.cols()) return std::numeric_limits<double>::quiet_NaN();
  const double difference = (ours.template cast<double>() - exact.template cast<double>()).norm();
  const double scale = exact.template cast<double>().norm();
  return scale > 0 ? difference / scale : difference;
}

/// Of a whole pass, relative to the norm of what is compared: 1.1e-13 in double. Sums that cancel in narrow layers cost
/// two digits; the kernels' own tests are stricter.
template <class T>
inline constexpr double tolerance = 512 * std::numeric_limits<T>::epsilon();

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
template <class F>
double check_gradient(const F& f, Eigen::VectorXd theta, const Eigen::VectorXd& gradient, double h = 1e-5) {
  Eigen::VectorXd differences(theta.size());
  for (Index i = 0; i < theta.size(); ++i) {
    const double before = theta[i];
    theta[i] = before + h;
    const double above = f(theta);
    theta[i] = before - h;
    const double below = f(theta);
    theta[i] = before;
    differences[i] = (above - below) / (2 * h);
  }
  return (gradient - differences).norm() / std::max(differences.norm(), 1e-2);
}

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
  Samples<T> samples() const {
    return {{X.data(), X.rows(), X.cols(), Eigen::OuterStride<>(X.outerStride())}, targets(), weights()};
  }
  chainrule::Batch<T> batch() const { return {samples(), X.rows()}; }

  /// y as the loss sees it: (n, d_L)
  Eigen::MatrixXd dense_target() const {
    const Index outputs = network.outputs();
    Eigen::MatrixXd dense = Eigen::MatrixXd::Zero(X.rows(), outputs);
    for (Index i = 0; i < X.rows(); ++i)
      for (Index j = 0; j < outputs; ++j)
        dense(i, j) = labels.empty() ? static_cast<double>(y(i, j / (outputs / y.cols())))
                                     : static_cast<double>(labels[static_cast<std::size_t>(i)] == j);
    return dense;
  }
  Eigen::VectorXd dense_weight() const {
    if (weight.size() == 0) return Eigen::VectorXd::Ones(X.rows());
    return weight.template cast<double>();
  }
  /// The textbook's forward and backward pass.
  reference::Pass reference() const {
    const reference::Net net = reference::net_of(network);
    reference::Pass pass = reference::forward(net, X.template cast<double>());
    reference::backward(net, loss, dense_target(), dense_weight(), pass);
    return pass;
  }
};

struct Shape {
  std::vector<Index> units;  // d_0 … d_L
  Index rows;
  bool weighted = false;
};

template <class T>
Problem<T> draw_problem(const Shape& shape, const std::vector<Activation>& activations, const Loss& loss, Draw& draw) {
  std::vector<chainrule::Layer> layers;
  for (std::size_t l = 1; l < shape.units.size(); ++l) layers.push_back({shape.units[l], activations[l - 1]});
  Problem<T> problem{Network<T>(shape.units[0], layers), loss, {}, {}, {}, {}};
  Network<T>& network = problem.network;
  for (Index l = 1; l <= network.depth(); ++l) {
    const double bound = std::sqrt(3.0 / static_cast<double>(network.units(l - 1)));
    network.weight(l) = draw.matrix<T>(network.units(l - 1), network.units(l), -bound, bound);
    network.bias(l) = draw.vector<T>(network.units(l), -0.5, 0.5);
  }
  const Index n = shape.rows, outputs = network.outputs();
  const std::string name = chainrule::name(loss);
  problem.X = draw.matrix<T>(n, network.inputs(), -1.5, 1.5);
  problem.y = draw.matrix<T>(n, outputs / outputs_per_target(loss), name == "bce" || name == "cross_entropy" ? 0 : -1);
  if (name == "poisson") problem.y = (5 * problem.y.array().abs()).floor();
  if (name == "cross_entropy" && n % 2 == 0)
    for (Index i = 0; i < n; ++i) problem.labels.push_back(draw.below(outputs));
  if (shape.weighted) {
    problem.weight = draw.vector<T>(n, 0.1, 2);
    if (n > 2) problem.weight[n / 2] = 0;
  }
  return problem;
}

/// One that stays `margin` away from every kink, so that it has but one right gradient.
template <class T>
Problem<T> make_problem(const Shape& shape, const std::vector<Activation>& activations, const Loss& loss,
                        std::uint64_t seed, double margin = 50 * std::numeric_limits<T>::epsilon()) {
  for (std::uint64_t attempt = 0; attempt < 200; ++attempt) {
    Draw draw(seed * 1000 + attempt);
    Problem<T> problem = draw_problem<T>(shape, activations, loss, draw);
    const reference::Net net = reference::net_of(problem.network);
    const reference::Pass pass = reference::forward(net, problem.X.template cast<double>());
    if (reference::distance_to_kink(net, loss, problem.dense_target(), pass) > margin) return problem;
  }
  throw std::logic_error("no problem without a kink");
}

inline std::vector<Activation> all_activations() {
  std::vector<Activation> all;
  for (const std::string& name : chainrule::activation_names()) all.push_back(chainrule::activation_named(name));
  all.push_back(chainrule::activation_named("leaky_relu", 0.3));
  all.push_back(chainrule::activation_named("elu", 1.7));
  return all;
}

inline std::vector<Activation> hidden_activations() {
  std::vector<Activation> hidden;
  for (const Activation& each : all_activations())
    if (!output_only(each)) hidden.push_back(each);
  return hidden;
}

inline std::vector<Loss> all_losses() {
  std::vector<Loss> all;
  for (const std::string& name : chainrule::loss_names()) all.push_back(chainrule::loss_named(name));
  all.push_back(chainrule::loss_named("huber", {0.4}));
  all.push_back(chainrule::loss_named("quantile", {0.1, 0.5, 0.85}));
  return all;
}

/// The output activations that a loss may follow.
inline std::vector<Activation> output_activations(const Loss& loss) {
  if (from_logits(loss)) return {chainrule::activation_named(default_output(loss)), chainrule::Identity{}};
  return all_activations();
}

/// All rules, with and without each of their settings.
inline std::vector<chainrule::Rule> all_rules() {
  using namespace chainrule;
  return {SGD{0.05},
          SGD{0.05, 0.9},
          SGD{0.05, 0.9, true, 0.01},
          SGD{0.05, 0, false, 0.1},
          RMSprop{0.01},
          RMSprop{0.01, 0.9, 1e-6, 0.01, 0.8, false},
          RMSprop{0.01, 0.95, 1e-3, 0, 0, true},
          RMSprop{0.01, 0.95, 1e-3, 0.02, 0.5, true},
          Adam{0.01},
          Adam{0.01, 0.8, 0.95, 1e-5, 0.05},
          AdamW{},
          [] {
            AdamW rule;
            rule.lr = 0.02;
            rule.weight_decay = 0.3;
            return rule;
          }()};
}

}  // namespace support
