#pragma once

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

#include "chainrule/activation.hpp"

namespace chainrule {

// Each loss is a type: its name and, elementwise on V (a vector of numbers), ℓ and its derivatives. To add one, write
// it here and name it in the variant below.
//
// A loss is a mean over samples, and over outputs too unless `sum_over_outputs`. With sample weights w it is
// Σ_i w_i ℓ_i / Σ_i w_i.
//
// `from_logits` says what x is: the output a_L, or the logits z_L. With logits, `link(z)` is the prediction and the
// derivative with respect to z_L is link(z) - y. `second_derivative` is d²ℓ/dx². p is a parameter per output column.

struct LossDefaults {
  static constexpr bool from_logits = false;
  static constexpr bool sum_over_outputs = false;
  static constexpr const char* default_output = "identity";
  static constexpr bool takes_labels = false;
  static constexpr const char* targets = "numbers";
  static bool takes(double) { return true; }  // as a target
  static std::vector<double> parameters() { return {}; }
  static bool set_parameters(const std::vector<double>&) { return false; }  // whether there are so many
  static void check() {}
  static long outputs_per_target() { return 1; }
};

/// ℓ = (a - y)²
struct MSE : LossDefaults {
  static constexpr const char* name = "mse";
  template <class V>
  static V value(V a, V y, V) {
    return (a - y) * (a - y);
  }
  template <class V>
  static V derivative(V a, V y, V) {
    return V(2) * (a - y);
  }
  template <class V>
  static V second_derivative(V, V, V) {
    return V(2);
  }
};

/// ℓ = |a - y|,  dℓ/da = sign(a - y)
struct MAE : LossDefaults {
  static constexpr const char* name = "mae";
  template <class V>
  static V value(V a, V y, V) {
    return abs(a - y);
  }
  template <class V>
  static V derivative(V a, V y, V) {
    return select(a > y, V(1), select(a < y, V(-1), a - y));
  }
  template <class V>
  static V second_derivative(V, V, V) {
    return V(0);
  }
};

/// ℓ = e²/2 for |e| ≤ δ, else δ (|e| - δ/2), with e = a - y.  Huber 1964
struct Huber : LossDefaults {
  static constexpr const char* name = "huber";
  double delta = 1.0;
  std::vector<double> parameters() const { return {delta}; }
  bool set_parameters(const std::vector<double>& given);
  void check() const;
  template <class V>
  static V value(V a, V y, V delta) {
    using T = typename V::Scalar;
    const V half = V(T(0.5)), e = abs(a - y);
    return select(e > delta, delta * (e - half * delta), half * e * e);
  }
  template <class V>
  static V derivative(V a, V y, V delta) {
    return max(-delta, min(delta, a - y));
  }
  template <class V>
  static V second_derivative(V a, V y, V delta) {
    return select(abs(a - y) > delta, V(0), V(1));
  }
};

/// ℓ = -y ln a - (1 - y) ln(1 - a) with a = 1/(1 + e^{-z}), from the logit z: (1 - y) z + max(-z, 0) + ln(1 + e^{-|z|})
struct BCE : LossDefaults {
  static constexpr const char* name = "bce";
  static constexpr bool from_logits = true;
  static constexpr const char* default_output = "sigmoid";
  static constexpr const char* targets = "numbers from 0 to 1";
  static bool takes(double y) { return y >= 0 && y <= 1; }
  template <class V>
  static V link(V z) {
    return sigmoid(z);
  }
  template <class V>
  static V value(V z, V y, V) {
    return ((V(1) - y) * z + max(-z, V(0))) + softplus(-abs(z));
  }
  template <class V>
  static V second_derivative(V z, V, V) {
    const V a = sigmoid(z);
    return a * (V(1) - a);
  }
};

/// ℓ = Σ_j y_j (ln Σ_k e^{z_k} - z_j), over a row; dℓ/dz = a Σ_j y_j - y with a = softmax(z)
struct CrossEntropy : LossDefaults {
  static constexpr const char* name = "cross_entropy";
  static constexpr bool from_logits = true;
  static constexpr bool sum_over_outputs = true;
  static constexpr const char* default_output = "softmax";
  static constexpr bool takes_labels = true;
  static constexpr const char* targets = "class shares >= 0";
  static bool takes(double y) { return y >= 0; }
};

/// ℓ = a - y ln a with the rate a = e^z, from z: e^z - y z (the constant ln y! is left out)
struct Poisson : LossDefaults {
  static constexpr const char* name = "poisson";
  static constexpr bool from_logits = true;
  static constexpr const char* default_output = "exp";
  static constexpr const char* targets = "numbers >= 0";
  static bool takes(double y) { return y >= 0; }
  template <class V>
  static V link(V z) {
    return exp(z);
  }
  template <class V>
  static V value(V z, V y, V) {
    // Of two products a compiler may fuse either with the difference, not the same one in each caller. e^z ends in one.
    return max(exp(z), V(0)) - y * z;
  }
  template <class V>
  static V second_derivative(V z, V, V) {
    return exp(z);
  }
};

/// ℓ = max(τ e, (τ - 1) e) with e = y - a, for one or several quantiles τ.  Koenker & Bassett 1978
///
/// With Q quantiles and t targets the network has t·Q outputs; output i·Q + q is quantile q of target i.
struct Quantile : LossDefaults {
  static constexpr const char* name = "quantile";
  std::vector<double> quantiles = {0.5};
  std::vector<double> parameters() const { return quantiles; }
  bool set_parameters(const std::vector<double>& given);
  void check() const;
  long outputs_per_target() const { return static_cast<long>(quantiles.size()); }
  template <class V>
  static V value(V a, V y, V tau) {
    const V e = y - a;
    return max(tau * e, (tau - V(1)) * e);
  }
  template <class V>
  static V derivative(V a, V y, V tau) {
    return select(y > a, -tau, select(y < a, V(1) - tau, y - a));
  }
  template <class V>
  static V second_derivative(V, V, V) {
    return V(0);
  }
};

using Loss = std::variant<MSE, MAE, Huber, BCE, CrossEntropy, Poisson, Quantile>;

/// The loss of that name; `parameters` as in its type, or empty for the defaults. std::invalid_argument for an unknown
/// name or parameters out of range.
Loss loss_named(const std::string& name, const std::vector<double>& parameters = {});
std::vector<std::string> loss_names();
/// std::invalid_argument for parameters out of range.
void check(const Loss& loss);

const char* name(const Loss& loss);
std::vector<double> parameters(const Loss& loss);
bool from_logits(const Loss& loss);
bool sum_over_outputs(const Loss& loss);
bool takes_labels(const Loss& loss);
/// The output activation that goes with the loss: its name.
const char* default_output(const Loss& loss);
/// std::invalid_argument where the loss does not go with that activation of the output, or with that number of outputs:
/// a loss from the logits goes with the activation that turns them into its prediction, or with the identity.
void check_output(const Loss& loss, const Activation& output, std::ptrdiff_t outputs);
/// Outputs of the network per target column: the number of quantiles, else 1.
long outputs_per_target(const Loss& loss);

}  // namespace chainrule
