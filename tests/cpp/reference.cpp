#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace reference {

namespace {

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
double softplus(double z) { return std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))); }
// In long double: far out both turn a rounding of their argument into z² of the result.
double normal_cdf(double z) { return static_cast<double>(std::erfc(-z / std::sqrt(2.0L)) / 2); }
double normal_density(double z) {
  const long double square = static_cast<long double>(z) * z;
  return static_cast<double>(std::exp(-square / 2) / std::sqrt(2 * 3.14159265358979323846264338327950288L));
}
constexpr double selu_lambda = 1.0507009873554804934193349852946;
constexpr double selu_alpha = 1.6732632423543772848170429916717;

/// σ(z)
double value(const Activation& activation, double z) {
  const std::string name = chainrule::name(activation);
  const double p = parameter(activation);
  if (name == "identity") return z;
  if (name == "sigmoid") return sigmoid(z);
  if (name == "tanh") return std::tanh(z);
  if (name == "relu") return z > 0 ? z : 0;
  if (name == "leaky_relu") return z > 0 ? z : p * z;
  if (name == "elu") return z > 0 ? z : p * std::expm1(z);
  if (name == "selu") return selu_lambda * (z > 0 ? z : selu_alpha * std::expm1(z));
  if (name == "gelu") return z * normal_cdf(z);
  if (name == "silu") return z * sigmoid(z);
  if (name == "softplus") return softplus(z);
  if (name == "exp") return std::exp(z);
  throw std::logic_error("no reference for " + name);
}

/// σ'(z); at a kink the value from the left.
double derivative(const Activation& activation, double z) {
  const std::string name = chainrule::name(activation);
  const double p = parameter(activation);
  if (name == "identity") return 1;
  if (name == "sigmoid") return sigmoid(z) * sigmoid(-z);
  if (name == "tanh") return 1 / (std::cosh(z) * std::cosh(z));
  if (name == "relu") return z > 0 ? 1 : 0;
  if (name == "leaky_relu") return z > 0 ? 1 : p;
  if (name == "elu") return z > 0 ? 1 : p * std::exp(z);
  if (name == "selu") return selu_lambda * (z > 0 ? 1 : selu_alpha * std::exp(z));
  if (name == "gelu") return normal_cdf(z) + z * normal_density(z);
  if (name == "silu") return sigmoid(z) * (1 + z * sigmoid(-z));
  if (name == "softplus") return sigmoid(z);
  if (name == "exp") return std::exp(z);
  throw std::logic_error("no reference for " + name);
}

/// Where σ' jumps, at z = 0, rounding may decide between two right answers.
bool has_kink(const Activation& activation) {
  const std::string name = chainrule::name(activation);
  return name == "relu" || name == "leaky_relu" || name == "selu" || (name == "elu" && parameter(activation) != 1);
}

/// What the loss starts from: z_L or a_L.
double loss_value(const Loss& loss, Index column, double x, double y) {
  const std::string name = chainrule::name(loss);
  const double p = loss_parameter(loss, column), e = x - y;
  if (name == "mse") return e * e;
  if (name == "mae") return std::abs(e);
  if (name == "huber") return std::abs(e) <= p ? e * e / 2 : p * (std::abs(e) - p / 2);
  if (name == "bce") return y * softplus(-x) + (1 - y) * softplus(x);
  if (name == "poisson") return std::exp(x) - y * x;
  if (name == "quantile") return std::max(p * (y - x), (p - 1) * (y - x));
  throw std::logic_error("no reference for " + name);
}

double loss_derivative(const Loss& loss, Index column, double x, double y) {
  const std::string name = chainrule::name(loss);
  const double p = loss_parameter(loss, column), e = x - y, sign = (e > 0) - (e < 0);
  if (name == "mse") return 2 * e;
  if (name == "mae") return sign;
  if (name == "huber") return std::clamp(e, -p, p);
  if (name == "bce") return sigmoid(x) - y;
  if (name == "poisson") return std::exp(x) - y;
  if (name == "quantile") return e == 0 ? 0 : e > 0 ? 1 - p : -p;
  throw std::logic_error("no reference for " + name);
}

bool is_cross_entropy(const Loss& loss) { return std::holds_alternative<chainrule::CrossEntropy>(loss); }

/// From δ_L to all gradients.
void backward_from(const Net& net, const MatrixXd& delta, Pass& pass) {
  const std::size_t depth = net.depth();
  pass.delta.resize(depth);
  pass.dW.resize(depth);
  pass.db.resize(depth);
  pass.delta[depth - 1] = delta;
  for (std::size_t l = depth; l-- > 0;) {
    pass.dW[l] = pass.a[l].transpose() * pass.delta[l];
    pass.db[l] = pass.delta[l].colwise().sum().transpose();
    const MatrixXd before = pass.delta[l] * net.W[l].transpose();
    if (l == 0)
      pass.dX = before;
    else
      pass.delta[l - 1] = through_activation(net.activations[l - 1], pass.z[l - 1], pass.a[l], before);
  }
}

void update(const chainrule::SGD& rule, std::int64_t, double g, double& w, Moments& s) {
  g += rule.weight_decay * w;
  if (rule.momentum != 0) {
    s.first = rule.momentum * s.first + g;
    g = rule.nesterov ? g + rule.momentum * s.first : s.first;
  }
  w -= rule.lr * g;
}

void update(const chainrule::RMSprop& rule, std::int64_t, double g, double& w, Moments& s) {
  g += rule.weight_decay * w;
  s.first = rule.alpha * s.first + (1 - rule.alpha) * g * g;
  double square = s.first;
  if (rule.centered) {
    s.mean = rule.alpha * s.mean + (1 - rule.alpha) * g;
    square -= s.mean * s.mean;
  }
  const double direction = g / (std::sqrt(square) + rule.eps);
  if (rule.momentum > 0) {
    s.second = rule.momentum * s.second + direction;
    w -= rule.lr * s.second;
  } else {
    w -= rule.lr * direction;
  }
}

void adam_direction(const chainrule::Adam& rule, std::int64_t t, double g, double& w, Moments& s) {
  s.first = rule.beta1 * s.first + (1 - rule.beta1) * g;
  s.second = rule.beta2 * s.second + (1 - rule.beta2) * g * g;
  const double m = s.first / (1 - std::pow(rule.beta1, t)), v = s.second / (1 - std::pow(rule.beta2, t));
  w -= rule.lr * m / (std::sqrt(v) + rule.eps);
}

void update(const chainrule::Adam& rule, std::int64_t t, double g, double& w, Moments& s) {
  adam_direction(rule, t, g + rule.weight_decay * w, w, s);
}

void update(const chainrule::AdamW& rule, std::int64_t t, double g, double& w, Moments& s) {
  w -= rule.lr * rule.weight_decay * w;
  adam_direction(rule, t, g, w, s);
}

}  // namespace

MatrixXd product(const MatrixXd& A, const MatrixXd& B) { return A * B; }

bool is_softmax(const Activation& activation) { return std::holds_alternative<chainrule::Softmax>(activation); }

MatrixXd activate(const Activation& activation, const MatrixXd& z) {
  if (!is_softmax(activation)) return z.unaryExpr([&](double one) { return value(activation, one); });
  MatrixXd a = (z.colwise() - z.rowwise().maxCoeff()).array().exp();
  for (Index i = 0; i < a.rows(); ++i) a.row(i) /= a.row(i).sum();
  return a;
}

MatrixXd through_activation(const Activation& activation, const MatrixXd& z, const MatrixXd& a,
                            const MatrixXd& gradient) {
  if (!is_softmax(activation))
    return gradient.cwiseProduct(z.unaryExpr([&](double one) { return derivative(activation, one); }));
  MatrixXd result(z.rows(), z.cols());
  for (Index i = 0; i < z.rows(); ++i) {
    // da_j/dz_k = a_j ([j = k] - a_k)
    const VectorXd row = a.row(i).transpose();
    const MatrixXd jacobian = MatrixXd(row.asDiagonal()) - row * row.transpose();
    result.row(i) = (jacobian * gradient.row(i).transpose()).transpose();
  }
  return result;
}

double loss_parameter(const Loss& loss, Index column) {
  const std::vector<double> values = parameters(loss);
  return values.empty() ? 0 : values[static_cast<std::size_t>(column) % values.size()];
}

double row_loss(const Loss& loss, const VectorXd& x, const VectorXd& y) {
  if (is_cross_entropy(loss)) {
    const double top = x.maxCoeff();
    const double log_sum = top + std::log((x.array() - top).exp().sum());
    return (y.array() * (log_sum - x.array())).sum();
  }
  double total = 0;
  for (Index j = 0; j < x.size(); ++j) total += loss_value(loss, j, x[j], y[j]);
  return total;
}

VectorXd row_loss_gradient(const Loss& loss, const VectorXd& x, const VectorXd& y) {
  if (is_cross_entropy(loss)) return activate(chainrule::Softmax{}, x.transpose()).transpose() * y.sum() - y;
  VectorXd gradient(x.size());
  for (Index j = 0; j < x.size(); ++j) gradient[j] = loss_derivative(loss, j, x[j], y[j]);
  return gradient;
}

VectorXd Pass::gradient() const {
  std::vector<double> flat;
  for (std::size_t l = 0; l < dW.size(); ++l) {
    for (Index i = 0; i < dW[l].rows(); ++i)
      for (Index j = 0; j < dW[l].cols(); ++j) flat.push_back(dW[l](i, j));
    flat.insert(flat.end(), db[l].data(), db[l].data() + db[l].size());
  }
  return Eigen::Map<VectorXd>(flat.data(), static_cast<Index>(flat.size()));
}

Pass forward(const Net& net, const MatrixXd& X) {
  Pass pass;
  pass.a.push_back(X);
  for (std::size_t l = 0; l < net.depth(); ++l) {
    pass.z.push_back((pass.a[l] * net.W[l]).rowwise() + net.b[l].transpose());
    pass.a.push_back(activate(net.activations[l], pass.z[l]));
  }
  return pass;
}

void backward(const Net& net, const Loss& loss, const MatrixXd& y, const VectorXd& weight, Pass& pass) {
  const MatrixXd& x = from_logits(loss) ? pass.z.back() : pass.a.back();
  const double outputs = sum_over_outputs(loss) ? 1 : static_cast<double>(x.cols());
  const double divisor = weight.sum() * outputs;
  MatrixXd delta(x.rows(), x.cols());
  pass.loss = 0;
  for (Index i = 0; i < x.rows(); ++i) {
    const VectorXd x_i = x.row(i).transpose(), y_i = y.row(i).transpose();
    pass.loss += weight[i] * row_loss(loss, x_i, y_i) / divisor;
    delta.row(i) = weight[i] / divisor * row_loss_gradient(loss, x_i, y_i).transpose();
  }
  if (!from_logits(loss)) delta = through_activation(net.activations.back(), pass.z.back(), pass.a.back(), delta);
  backward_from(net, delta, pass);
}

void pullback(const Net& net, const MatrixXd& grad_output, Pass& pass) {
  backward_from(net, through_activation(net.activations.back(), pass.z.back(), pass.a.back(), grad_output), pass);
}

double distance_to_kink(const Net& net, const Loss& loss, const MatrixXd& y, const Pass& pass) {
  double distance = std::numeric_limits<double>::infinity();
  for (std::size_t l = 0; l < net.depth(); ++l)
    if (has_kink(net.activations[l])) distance = std::min(distance, pass.z[l].cwiseAbs().minCoeff());
  const std::string name = chainrule::name(loss);
  if (name == "mae" || name == "quantile") distance = std::min(distance, (pass.a.back() - y).cwiseAbs().minCoeff());
  return distance;
}

void update(const chainrule::Rule& rule, std::int64_t t, double g, double& w, Moments& s) {
  std::visit([&](const auto& one) { update(one, t, g, w, s); }, rule);
}

}  // namespace reference
