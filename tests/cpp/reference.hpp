#pragma once

// Backpropagation as a textbook writes it, in double, on Eigen's matrices: what the library is measured against.

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "chainrule/activation.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"
#include "chainrule/rule.hpp"

namespace reference {

using chainrule::Activation;
using chainrule::Index;
using chainrule::Loss;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// A B, (m, n)
MatrixXd product(const MatrixXd& A /* (m, k) */, const MatrixXd& B /* (k, n) */);

bool is_softmax(const Activation& activation);
MatrixXd activate(const Activation& activation, const MatrixXd& z);
/// dL/dz from dL/da
MatrixXd through_activation(const Activation& activation, const MatrixXd& z, const MatrixXd& a,
                            const MatrixXd& gradient);

double loss_parameter(const Loss& loss, Index column);
/// Σ_j ℓ(x_j, y_j) of one row. What the loss starts from: z_L or a_L.
double row_loss(const Loss& loss, const VectorXd& x, const VectorXd& y);
VectorXd row_loss_gradient(const Loss& loss, const VectorXd& x, const VectorXd& y);

// Networks. Entry l - 1 of a list belongs to layer l; a[l] is a_l.

struct Net {
  std::vector<MatrixXd> W;
  std::vector<VectorXd> b;
  std::vector<Activation> activations;

  std::size_t depth() const { return W.size(); }
};

template <class T>
Net net_of(const chainrule::Network<T>& network) {
  Net net;
  for (Index l = 1; l <= network.depth(); ++l) {
    net.W.push_back(network.weight(l).template cast<double>());
    net.b.push_back(network.bias(l).template cast<double>());
    net.activations.push_back(network.activation(l));
  }
  return net;
}

struct Pass {
  std::vector<MatrixXd> a, z, delta, dW;
  std::vector<VectorXd> db;
  MatrixXd dX;
  double loss = 0;

  VectorXd gradient() const;  // dW_1, db_1, dW_2, …, by rows
};

Pass forward(const Net& net, const MatrixXd& X);
/// y: (n, d_L). weight: (n,)
void backward(const Net& net, const Loss& loss, const MatrixXd& y, const VectorXd& weight, Pass& pass);
/// From dL/da_L to all gradients.
void pullback(const Net& net, const MatrixXd& grad_output, Pass& pass);
/// How far the pass stays from the nearest point where a derivative jumps.
double distance_to_kink(const Net& net, const Loss& loss, const MatrixXd& y, const Pass& pass);

// Optimizers: one number, one step, as PyTorch's documentation writes them.

struct Moments {
  double first = 0, second = 0, mean = 0;
};

void update(const chainrule::Rule& rule, std::int64_t t, double g, double& w, Moments& s);

}  // namespace reference
