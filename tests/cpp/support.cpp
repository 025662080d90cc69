#include "support.hpp"

namespace support {

double relative_error(const Eigen::MatrixXd& ours, const Eigen::MatrixXd& exact) {
  if (ours.rows() != exact.rows() || ours.cols() != exact.cols()) return std::numeric_limits<double>::quiet_NaN();
  const double difference = (ours - exact).norm(), scale = exact.norm();
  return scale > 0 ? difference / scale : difference;
}

double check_gradient(const std::function<double(const Eigen::VectorXd&)>& f, Eigen::VectorXd theta,
                      const Eigen::VectorXd& gradient, double h) {
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

template <class T>
Eigen::MatrixXd Problem<T>::dense_target() const {
  const Index outputs = network.outputs();
  Eigen::MatrixXd dense = Eigen::MatrixXd::Zero(X.rows(), outputs);
  for (Index i = 0; i < X.rows(); ++i)
    for (Index j = 0; j < outputs; ++j)
      dense(i, j) = labels.empty() ? static_cast<double>(y(i, j / (outputs / y.cols())))
                                   : static_cast<double>(labels[static_cast<std::size_t>(i)] == j);
  return dense;
}

template <class T>
Eigen::VectorXd Problem<T>::dense_weight() const {
  if (weight.size() == 0) return Eigen::VectorXd::Ones(X.rows());
  return weight.template cast<double>();
}

template <class T>
reference::Pass Problem<T>::reference() const {
  const reference::Net net = reference::net_of(network);
  reference::Pass pass = reference::forward(net, X.template cast<double>());
  reference::backward(net, loss, dense_target(), dense_weight(), pass);
  return pass;
}

namespace {

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

}  // namespace

template <class T>
Problem<T> make_problem(const Shape& shape, const std::vector<Activation>& activations, const Loss& loss,
                        std::uint64_t seed, double margin) {
  for (std::uint64_t attempt = 0; attempt < 200; ++attempt) {
    Draw draw(seed * 1000 + attempt);
    Problem<T> problem = draw_problem<T>(shape, activations, loss, draw);
    const reference::Net net = reference::net_of(problem.network);
    const reference::Pass pass = reference::forward(net, problem.X.template cast<double>());
    if (reference::distance_to_kink(net, loss, problem.dense_target(), pass) > margin) return problem;
  }
  throw std::logic_error("no problem without a kink");
}

template struct Problem<float>;
template Problem<float> make_problem(const Shape&, const std::vector<Activation>&, const Loss&, std::uint64_t, double);
template struct Problem<double>;
template Problem<double> make_problem(const Shape&, const std::vector<Activation>&, const Loss&, std::uint64_t, double);

std::vector<Activation> all_activations() {
  std::vector<Activation> all;
  for (const std::string& name : chainrule::activation_names()) all.push_back(chainrule::activation_named(name));
  all.push_back(chainrule::activation_named("leaky_relu", 0.3));
  all.push_back(chainrule::activation_named("elu", 1.7));
  return all;
}

std::vector<Activation> hidden_activations() {
  std::vector<Activation> hidden;
  for (const Activation& each : all_activations())
    if (!output_only(each)) hidden.push_back(each);
  return hidden;
}

std::vector<Loss> all_losses() {
  std::vector<Loss> all;
  for (const std::string& name : chainrule::loss_names()) all.push_back(chainrule::loss_named(name));
  all.push_back(chainrule::loss_named("huber", {0.4}));
  all.push_back(chainrule::loss_named("quantile", {0.1, 0.5, 0.85}));
  return all;
}

std::vector<Activation> output_activations(const Loss& loss) {
  if (from_logits(loss)) return {chainrule::activation_named(default_output(loss)), chainrule::Identity{}};
  return all_activations();
}

std::vector<chainrule::Rule> all_rules() {
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
