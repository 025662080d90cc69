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

using UpdateConstants = std::array<double, 10>;
inline constexpr int max_moments = 3;

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
    g = fma(c[0], w, g);
    s[0] = fma(c[1], s[0], product(c[4], g));
    w = w - fma(c[2], g, product(c[3], s[0]));
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
    g = fma(c[0], w, g);
    s[0] = fma(c[1], s[0], product(c[2], g * g));
    s[2] = fma(c[2], g - s[2], s[2]);
    const V variance = at_least(s[0] - c[4] * (s[2] * s[2]), V(0));  // which rounding can make negative
    s[1] = fma(c[3], s[1], g / (sqrt(variance) + c[5]));
    w = w - c[6] * s[1];
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
    g = fma(c[0], w, g);
    s[0] = fma(c[2], g - s[0], s[0]);
    s[1] = fma(c[3], s[1], product(c[4], g * g));
    w = c[1] * w - c[5] * s[0] / (sqrt(s[1]) * c[6] + c[7]);
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
