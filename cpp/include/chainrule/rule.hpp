#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace chainrule {

// Each update rule of an optimizer is a type: its settings (PyTorch's names, defaults and rules) and one elementwise
// update. To add one, write it here and name it in the variant below.
//
// `constants(t)` are the numbers that step t = 1, 2, … needs; `update(c, g, w, s)` gets them on V, a vector of numbers,
// with the gradient g, the parameter w and the moments s, zero at first, and writes w and s. `moments()` says which of
// the moments have to be stored, bit i for s[i]: the required ones, and of the optional ones those that the settings
// call for. The others are zero in every call. Every number must get the same bits wherever it stands: a sum of two
// products is fma(a, b, product(c, d)). The first constant is the λ of g ← g + λ w in every rule. `check()`
// throws where a setting is out of range.

using UpdateConstants = std::array<double, 8>;
inline constexpr int max_moments = 3;

/// g + λ w; for λ = 0 that is g, also where w is infinite.
template <class V>
V decayed(V g, V lambda, V w) {
  return select(lambda == V(0), g, fma(lambda, w, g));
}

/// b ← μ b + g;  w ← w - η b, or with Nesterov's momentum w ← w - η (g + μ b). With g ← g + λ w before.
///
/// With `velocity` η is part of the sum, b ← μ b + η g;  w ← w - b, or w ← w - (η g + μ b): Sutskever et al. 2013. That
/// differs as soon as η changes.
struct SGD {
  static constexpr const char* name = "sgd";
  double lr = 1e-3;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  bool velocity = false;

  static constexpr unsigned required_moments = 0, optional_moments = 1;
  unsigned moments() const { return momentum != 0 ? 1 : 0; }
  UpdateConstants constants(std::int64_t t) const;
  void check() const;
  template <class V>
  static void update(const V* c, V g, V& w, V* s) {
    const V &lambda = c[0], &momentum = c[1], &share = c[2], &rate_of_g = c[3], &rate_of_b = c[4];
    V& b = s[0];
    g = decayed(g, lambda, w);
    b = fma(momentum, b, product(share, g));
    w = w - fma(rate_of_g, g, product(rate_of_b, b));
  }
};

/// v ← α v + (1 - α) g²;  b ← μ b + g / (√v + ε);  w ← w - η b. `centered` takes the variance v - m² for v, with
/// m ← α m + (1 - α) g.  Hinton 2012, Graves 2013
struct RMSprop {
  static constexpr const char* name = "rmsprop";
  double lr = 1e-2;
  double alpha = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;

  static constexpr unsigned required_moments = 1, optional_moments = 6;
  unsigned moments() const { return 1u | (momentum != 0 ? 2u : 0u) | (centered ? 4u : 0u); }
  UpdateConstants constants(std::int64_t t) const;
  void check() const;
  template <class V>
  static void update(const V* c, V g, V& w, V* s) {
    const V &lambda = c[0], &alpha = c[1], &one_minus_alpha = c[2], &momentum = c[3], &centered = c[4], &eps = c[5],
            &rate = c[6];
    V &v = s[0], &b = s[1], &m = s[2];
    g = decayed(g, lambda, w);
    v = fma(alpha, v, product(one_minus_alpha, g * g));
    m = fma(one_minus_alpha, g - m, m);
    const V variance = at_least(v - m * (centered * m), V(0));  // which rounding can make negative
    b = fma(momentum, b, g / (sqrt(variance) + eps));
    w = w - rate * b;
  }
};

/// m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  w ← w - η m̂ / (√v̂ + ε) with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ).
/// Kingma & Ba 2015. Weight decay λ is part of the gradient: g ← g + λ w.
///
/// With `eps_hat` ε is added to √v, before the correction of the bias (the end of their section 2).
struct Adam {
  static constexpr const char* name = "adam";
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool eps_hat = false;

  static constexpr unsigned required_moments = 3, optional_moments = 0;
  unsigned moments() const { return 3; }
  UpdateConstants constants(std::int64_t t) const;
  void check() const;
  template <class V>
  static void update(const V* c, V g, V& w, V* s) {
    const V &lambda = c[0], &kept = c[1], &one_minus_beta1 = c[2], &beta2 = c[3], &one_minus_beta2 = c[4], &rate = c[5],
            &correction = c[6], &eps = c[7];
    V &m = s[0], &v = s[1];
    g = decayed(g, lambda, w);
    m = fma(one_minus_beta1, g - m, m);
    v = fma(beta2, v, product(one_minus_beta2, g * g));
    w = kept * w - rate * m / (sqrt(v) * correction + eps);
  }
};

/// Adam with the weight decay apart from the gradient: w ← (1 - η λ) w first.  Loshchilov & Hutter 2019
struct AdamW : Adam {
  static constexpr const char* name = "adamw";
  AdamW() { weight_decay = 1e-2; }
  UpdateConstants constants(std::int64_t t) const;
};

using Rule = std::variant<SGD, RMSprop, Adam, AdamW>;

/// The rule of that name with its defaults; std::invalid_argument for an unknown name.
Rule rule_named(const std::string& name);
std::vector<std::string> rule_names();
const char* name(const Rule& rule);
double learning_rate(const Rule& rule);
void set_learning_rate(Rule& rule, double lr);
/// std::invalid_argument naming the setting that is out of range.
void check(const Rule& rule);

}  // namespace chainrule
