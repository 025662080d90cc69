#pragma once

#include <string>
#include <variant>
#include <vector>

namespace chainrule {

// Each activation is a type: its name, σ and σ', elementwise, on V, a vector of numbers. To add one, write it here and
// name it in the variant below; kernels, names, bindings and tests follow from that list.
//
// `value(z, p)` is a = σ(z); `derivative(z, a, p)` is σ'(z) and `second_derivative(z, a, p)` is σ''(z), from a wherever
// that is possible: then `needs_z` is false and z is not stored. p is the activation's parameter, if it has one.

/// What most activations are: elementwise, without a parameter, good in any layer, started by Xavier's rule.
struct ActivationDefaults {
  static constexpr bool needs_z = false;
  static constexpr bool output_only = false;
  static constexpr bool rectifier = false;         // He's initialisation suits it
  static constexpr bool piecewise_linear = false;  // σ'' = 0
  static constexpr bool over_row = false;          // a function of the whole row
  static constexpr bool may_die = false;           // σ' = 0 for all z < 0
  static constexpr double low = 0, high = 0;       // the range, where σ' vanishes at both of its ends
  static constexpr const char* parameter_name = nullptr;
  static constexpr const char* parameter_range = "";
  static constexpr double parameter() { return 0; }
  static void set_parameter(double) {}
  static bool takes(double) { return true; }
};

/// σ(z) = z
struct Identity : ActivationDefaults {
  static constexpr const char* name = "identity";
  static constexpr bool piecewise_linear = true;
  template <class V>
  static V value(V z, V) {
    return z;
  }
  template <class V>
  static V derivative(V, V, V) {
    return V(1);
  }
  template <class V>
  static V second_derivative(V, V, V) {
    return V(0);
  }
};

/// σ(z) = 1 / (1 + e^{-z}),  σ' = a (1 - a)
struct Sigmoid : ActivationDefaults {
  static constexpr const char* name = "sigmoid";
  static constexpr double low = 0, high = 1;
  template <class V>
  static V value(V z, V) {
    return sigmoid(z);
  }
  template <class V>
  static V derivative(V, V a, V) {
    return a * (V(1) - a);
  }
  template <class V>
  static V second_derivative(V, V a, V) {
    return a * (V(1) - a) * (V(1) - (a + a));
  }
};

/// σ' = 1 - a²
struct Tanh : ActivationDefaults {
  static constexpr const char* name = "tanh";
  static constexpr double low = -1, high = 1;
  template <class V>
  static V value(V z, V) {
    return tanh(z);
  }
  template <class V>
  static V derivative(V, V a, V) {
    return V(1) - a * a;
  }
  template <class V>
  static V second_derivative(V, V a, V) {
    return V(-2) * a * (V(1) - a * a);
  }
};

/// σ(z) = max(z, 0),  σ' = [z > 0]. NaN stays NaN.
struct ReLU : ActivationDefaults {
  static constexpr const char* name = "relu";
  static constexpr bool piecewise_linear = true;
  static constexpr bool rectifier = true;
  static constexpr bool may_die = true;
  template <class V>
  static V value(V z, V) {
    return at_least(z, V(0));
  }
  template <class V>
  static V derivative(V, V a, V) {
    return select(a > V(0), V(1), V(0));
  }
  template <class V>
  static V second_derivative(V, V, V) {
    return V(0);
  }
};

/// σ(z) = z for z > 0, else s z,  with the slope s
struct LeakyReLU : ActivationDefaults {
  static constexpr const char* name = "leaky_relu";
  static constexpr bool piecewise_linear = true;
  static constexpr const char* parameter_name = "negative_slope";
  static constexpr const char* parameter_range = ">= 0";
  static constexpr bool rectifier = true;
  double negative_slope = 0.01;
  double parameter() const { return negative_slope; }
  void set_parameter(double given) { negative_slope = given; }
  static bool takes(double given) { return given >= 0; }
  template <class V>
  static V value(V z, V slope) {
    return select(z > V(0), z, slope * z);
  }
  template <class V>
  static V derivative(V, V a, V slope) {
    return select(a > V(0), V(1), slope);
  }
  template <class V>
  static V second_derivative(V, V, V) {
    return V(0);
  }
};

/// σ(z) = z for z > 0, else α (e^z - 1);  σ' = 1, else a + α.  Clevert et al. 2016
struct ELU : ActivationDefaults {
  static constexpr const char* name = "elu";
  static constexpr const char* parameter_name = "alpha";
  static constexpr const char* parameter_range = "> 0";
  static constexpr bool rectifier = true;
  double alpha = 1.0;
  double parameter() const { return alpha; }
  void set_parameter(double given) { alpha = given; }
  static bool takes(double given) { return given > 0; }
  template <class V>
  static V value(V z, V alpha) {
    return select(z > V(0), z, alpha * expm1(z));
  }
  template <class V>
  static V derivative(V, V a, V alpha) {
    return select(a > V(0), V(1), a + alpha);
  }
  template <class V>
  static V second_derivative(V, V a, V alpha) {
    return select(a > V(0), V(0), a + alpha);
  }
};

/// σ(z) = λ z for z > 0, else λ α (e^z - 1).  Klambauer et al. 2017
struct SELU : ActivationDefaults {
  static constexpr const char* name = "selu";
  static constexpr bool rectifier = true;
  static constexpr double lambda = 1.0507009873554804934193349852946;
  static constexpr double lambda_alpha = 1.7580993408473768599402175208123;
  template <class V>
  static V value(V z, V) {
    using T = typename V::Scalar;
    return select(z > V(0), V(T(lambda)) * z, V(T(lambda_alpha)) * expm1(z));
  }
  template <class V>
  static V derivative(V, V a, V) {
    using T = typename V::Scalar;
    return select(a > V(0), V(T(lambda)), a + V(T(lambda_alpha)));
  }
  template <class V>
  static V second_derivative(V, V a, V) {
    using T = typename V::Scalar;
    return select(a > V(0), V(0), a + V(T(lambda_alpha)));
  }
};

/// σ(z) = z Φ(z), with Φ the normal distribution's (exact, not the tanh fit);  σ' = Φ(z) + z φ(z).
/// Hendrycks & Gimpel 2016
struct GELU : ActivationDefaults {
  static constexpr const char* name = "gelu";
  static constexpr bool needs_z = true;
  static constexpr bool rectifier = true;
  template <class V>
  static V value(V z, V) {
    return z * normal_cdf(z);
  }
  template <class V>
  static V derivative(V z, V, V) {
    return normal_cdf(z) + z * normal_density(z);
  }
  template <class V>
  static V second_derivative(V z, V, V) {
    const V density = normal_density(z);
    return V(2) * density - density * z * z;  // z² alone may overflow
  }
};

/// σ(z) = z s(z), with s the logistic sigmoid;  σ' = s + a (1 - s)
struct SiLU : ActivationDefaults {
  static constexpr const char* name = "silu";
  static constexpr bool needs_z = true;
  static constexpr bool rectifier = true;
  template <class V>
  static V value(V z, V) {
    return z * sigmoid(z);
  }
  template <class V>
  static V derivative(V z, V a, V) {
    const V s = sigmoid(z);
    return s + a * (V(1) - s);
  }
  template <class V>
  static V second_derivative(V z, V, V) {
    const V s = sigmoid(z);
    return s * (V(1) - s) * (V(2) + z * (V(1) - (s + s)));
  }
};

/// σ(z) = ln(1 + e^z),  σ' = 1 - e^{-a}
struct Softplus : ActivationDefaults {
  static constexpr const char* name = "softplus";
  static constexpr bool rectifier = true;
  template <class V>
  static V value(V z, V) {
    return softplus(z);
  }
  template <class V>
  static V derivative(V, V a, V) {
    return -expm1(-a);
  }
  template <class V>
  static V second_derivative(V, V a, V) {
    return -expm1(-a) * exp(-a);
  }
};

/// σ(z) = σ'(z) = σ''(z) = e^z
struct Exp : ActivationDefaults {
  static constexpr const char* name = "exp";
  static constexpr bool output_only = true;
  template <class V>
  static V value(V z, V) {
    return exp(z);
  }
  template <class V>
  static V derivative(V, V a, V) {
    return a;
  }
  template <class V>
  static V second_derivative(V, V a, V) {
    return a;
  }
};

/// a_j = e^{z_j} / Σ_k e^{z_k}: over a row, so without elementwise value and derivatives.
struct Softmax : ActivationDefaults {
  static constexpr const char* name = "softmax";
  static constexpr bool output_only = true;
  static constexpr bool over_row = true;
};

using Activation =
    std::variant<Identity, Sigmoid, Tanh, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Softplus, Exp, Softmax>;

/// The activation of that name with its default parameter; std::invalid_argument for an unknown name.
Activation activation_named(const std::string& name);
/// The same with its parameter; std::invalid_argument where it has none or the value is out of range.
Activation activation_named(const std::string& name, double parameter);
std::vector<std::string> activation_names();
/// std::invalid_argument for a parameter out of range.
void check(const Activation& activation);

const char* name(const Activation& activation);
/// The name of the parameter, or nullptr.
const char* parameter_name(const Activation& activation);
double parameter(const Activation& activation);
bool needs_z(const Activation& activation);
bool output_only(const Activation& activation);
bool rectifier(const Activation& activation);
bool piecewise_linear(const Activation& activation);
bool over_row(const Activation& activation);
bool operator==(const Activation& left, const Activation& right);

}  // namespace chainrule
