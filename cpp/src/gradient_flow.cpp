#include "chainrule/gradient_flow.hpp"

#include <algorithm>
#include <cmath>

namespace chainrule {

namespace {

template <class T>
ParameterFlow flow_of(std::string name, const T* gradient, Index size) {
  ParameterFlow flow{std::move(name), 0, 0, 0, 0};
  double total = 0;
  for (Index i = 0; i < size; ++i) {
    const double g = std::abs(static_cast<double>(gradient[i]));
    if (std::isnan(g)) {
      ++flow.nan;
    } else if (std::isinf(g)) {
      ++flow.inf;
    } else {
      total += g;
      flow.max_abs = std::max(flow.max_abs, g);
    }
  }
  const Index finite = size - flow.nan - flow.inf;
  flow.mean_abs = finite > 0 ? total / static_cast<double>(finite) : std::nan("");
  if (finite == 0) flow.max_abs = std::nan("");
  return flow;
}

/// Share of the outputs within 1 % of the range (low, high) of an end.
template <class T>
double saturated_share(MatrixView<T> a, double low, double high) {
  const auto margin = 0.01 * (high - low);
  Index count = 0;
  for (Index r = 0; r < a.rows(); ++r)
    for (Index c = 0; c < a.cols(); ++c) count += a(r, c) < low + margin || a(r, c) > high - margin;
  return static_cast<double>(count) / static_cast<double>(a.size());
}

template <class T>
double dead_share(MatrixView<T> a) {
  Index count = 0;
  for (Index c = 0; c < a.cols(); ++c) count += (a.col(c).array() == T(0)).all();
  return static_cast<double>(count) / static_cast<double>(a.cols());
}

}  // namespace

template <class T>
GradientFlow gradient_flow(const Network<T>& network, Tape<T>& tape, ConstVectorView<T> gradient) {
  GradientFlow flow;
  for (Index l = 1; l <= network.depth(); ++l) {
    const std::string layer = "layers." + std::to_string(l - 1);
    flow.parameters.push_back(
        flow_of(layer + ".weight", gradient.data() + network.offset(l), network.weight(l).size()));
    flow.parameters.push_back(flow_of(layer + ".bias", gradient.data() + network.bias_offset(l), network.units(l)));
    const Activation& activation = network.activation(l);
    LayerFlow of_layer{layer, name(activation), {}, {}, tape.delta(l).template cast<double>().norm()};
    if (std::holds_alternative<Sigmoid>(activation)) of_layer.saturated = saturated_share<T>(tape.activation(l), 0, 1);
    if (std::holds_alternative<Tanh>(activation)) of_layer.saturated = saturated_share<T>(tape.activation(l), -1, 1);
    if (std::holds_alternative<ReLU>(activation)) of_layer.dead = dead_share<T>(tape.activation(l));
    flow.layers.push_back(std::move(of_layer));
  }
  return flow;
}

template GradientFlow gradient_flow(const Network<float>&, Tape<float>&, ConstVectorView<float>);
template GradientFlow gradient_flow(const Network<double>&, Tape<double>&, ConstVectorView<double>);

}  // namespace chainrule
