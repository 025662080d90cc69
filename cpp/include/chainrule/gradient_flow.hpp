#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chainrule/network.hpp"
#include "chainrule/tape.hpp"

namespace chainrule {

/// Of the gradient of one parameter tensor.
struct ParameterFlow {
  std::string name;  // "layers.0.weight", …
  double mean_abs;   // over the finite entries
  double max_abs;
  Index nan, inf;
};

/// Of one layer, over the batch on the tape.
struct LayerFlow {
  std::string name;  // "layers.0", …
  std::string activation;
  std::optional<double> saturated;  // share of sigmoid/tanh outputs within 1 % of the range of an end
  std::optional<double> dead;       // share of ReLU units that are zero for every row
  double delta_norm;                // Frobenius norm of δ_l
};

struct GradientFlow {
  std::vector<ParameterFlow> parameters;
  std::vector<LayerFlow> layers;
};

/// How the gradient of the last backward pass runs through the layers.
template <class T>
GradientFlow gradient_flow(const Network<T>& network, Tape<T>& tape, ConstVectorView<T> gradient);

}  // namespace chainrule
