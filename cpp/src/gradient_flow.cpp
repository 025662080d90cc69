#include "chainrule/gradient_flow.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"
#include "tensor_sums.hpp"

namespace chainrule {

namespace {

using engine::kernels;
using engine::parallel;
using engine::part;
using engine::Range;
using engine::Sums;
using engine::threads_for;

ParameterFlow flow_of(const TensorSums& sums, Index size) {
  const GradientSums& of = sums.gradient;
  const Index finite = size - of.nan - of.inf;
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  ParameterFlow flow{finite > 0 ? of.absolute / static_cast<double>(finite) : nothing,
                     finite > 0 ? of.largest : nothing,
                     finite > 0 ? std::hypot(std::sqrt(of.squares), of.far_norm) : nothing,
                     {},
                     static_cast<double>(of.zeros) / static_cast<double>(size),
                     of.nan,
                     of.inf};
  if (sums.theta_squares > 0) flow.update_ratio = std::sqrt(sums.change_squares / sums.theta_squares);
  return flow;
}

/// The ends of an activation's range, less a margin of 1 %; or of all numbers.
std::pair<double, double> unsaturated(const Activation& activation) {
  if (std::holds_alternative<Sigmoid>(activation)) return {0.01, 0.99};
  if (std::holds_alternative<Tanh>(activation)) return {-0.98, 0.98};
  return {-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
}

/// The columns of a layer are cut into parts of so many, whatever the number of threads is: sums do not depend on it.
constexpr Index most_columns = 64;

/// What is added up over some columns of a layer.
struct LayerSums {
  Sums activation;
  double delta_squares = 0;
  Index dead = 0;
};

template <class T>
LayerSums sums_of_columns(const Network<T>& network, Tape<T>& tape, Index l, Range columns) {
  const MatrixView<T> a = tape.activation(l), delta = tape.delta(l);
  const auto [low, high] = unsaturated(network.activation(l));
  const bool may_die = std::holds_alternative<ReLU>(network.activation(l));
  LayerSums sums;
  T peak[most_columns];
  kernels<T>().activation_sums(a.rows(), columns.size(), {a.data() + columns.begin, a.outerStride()},
                               static_cast<T>(low), static_cast<T>(high), may_die ? peak : nullptr, &sums.activation);
  for (Index c = 0; may_die && c < columns.size(); ++c) sums.dead += peak[c] == T(0);
  Sums of_delta;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  kernels<T>().activation_sums(delta.rows(), columns.size(), {delta.data() + columns.begin, delta.outerStride()},
                               -infinity, infinity, nullptr, &of_delta);
  sums.delta_squares = of_delta.squares;
  if (!std::isfinite(of_delta.squares) || of_delta.squares < std::numeric_limits<T>::min())
    sums.delta_squares =
        delta.middleCols(columns.begin, columns.size()).template cast<double>().squaredNorm();  // out of T's range
  return sums;
}

template <class T>
LayerFlow flow_of(const Network<T>& network, Tape<T>& tape, Index l, const LayerSums& sums) {
  const double units = static_cast<double>(network.units(l)), n = units * static_cast<double>(tape.rows());
  const double mean = sums.activation.plain / n;
  const Activation& activation = network.activation(l);
  LayerFlow flow{{}, {}, mean, std::max(0.0, sums.activation.squares / n - mean * mean), std::sqrt(sums.delta_squares)};
  if (std::holds_alternative<Sigmoid>(activation) || std::holds_alternative<Tanh>(activation))
    flow.saturated = static_cast<double>(sums.activation.outside) / n;
  if (std::holds_alternative<ReLU>(activation)) flow.dead = static_cast<double>(sums.dead) / units;
  return flow;
}

/// From the sums of W_1, b_1, W_2, …, and from the tape.
template <class T>
GradientFlow flow_of(const Network<T>& network, Tape<T>& tape, const std::vector<TensorSums>& of_tensor) {
  struct Part {
    Index l;
    Range columns;
  };
  std::vector<Part> parts;
  double numbers = 0;
  for (Index l = 1; l <= network.depth(); ++l) {
    const Index units = network.units(l), count = (units + most_columns - 1) / most_columns;
    for (Index i = 0; i < count; ++i) parts.push_back({l, part(units, count, i)});
    numbers += 2.0 * static_cast<double>(units * tape.rows());
  }
  std::vector<LayerSums> of_part(parts.size());
  parallel(static_cast<std::ptrdiff_t>(parts.size()), threads_for(4 * numbers), [&](std::ptrdiff_t i) {
    const auto at = static_cast<std::size_t>(i);
    of_part[at] = sums_of_columns(network, tape, parts[at].l, parts[at].columns);
  });

  std::vector<LayerSums> of_layer(static_cast<std::size_t>(network.depth()));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    LayerSums& sums = of_layer[static_cast<std::size_t>(parts[i].l - 1)];
    sums.activation.plain += of_part[i].activation.plain;
    sums.activation.squares += of_part[i].activation.squares;
    sums.activation.outside += of_part[i].activation.outside;
    sums.delta_squares += of_part[i].delta_squares;
    sums.dead += of_part[i].dead;
  }
  GradientFlow flow;
  for (Index l = 1; l <= network.depth(); ++l) {
    const auto at = static_cast<std::size_t>(l - 1);
    flow.parameters.push_back(flow_of(of_tensor[2 * at], network.weight(l).size()));
    flow.parameters.push_back(flow_of(of_tensor[2 * at + 1], network.units(l)));
    flow.layers.push_back(flow_of(network, tape, l, of_layer[at]));
  }
  return flow;
}

}  // namespace

template <class T>
GradientFlow gradient_flow(const Network<T>& network, Tape<T>& tape, ConstVectorView<T> gradient) {
  return flow_of(network, tape, tensor_sums(network, gradient.data()));
}

template <class T>
std::vector<ActivationHistogram> activation_histograms(const Network<T>& network, Tape<T>& tape) {
  constexpr Index bins = 40;
  std::vector<ActivationHistogram> histograms;
  for (Index l = 1; l <= network.depth(); ++l) {
    const MatrixView<T> a = tape.activation(l);
    double low = std::numeric_limits<double>::infinity(), high = -low;
    const auto each = [&](const auto& use) {
      for (Index r = 0; r < a.rows(); ++r)
        for (Index c = 0; c < a.cols(); ++c)
          if (const auto value = static_cast<double>(a(r, c)); std::isfinite(value)) use(value);
    };
    each([&](double value) {
      low = std::min(low, value);
      high = std::max(high, value);
    });
    if (low > high) low = high = 0;  // nothing finite
    ActivationHistogram histogram{low, high, std::vector<Index>(bins)};
    const double scale = high > low ? bins / (high - low) : 0;
    each([&](double value) {
      const auto bin = static_cast<Index>((value - low) * scale);
      ++histogram.counts[static_cast<std::size_t>(std::min(bin, bins - 1))];
    });
    histograms.push_back(std::move(histogram));
  }
  return histograms;
}

template <class T>
void FlowRecorder<T>::step_done(FitState<T>& state) {
  has_stepped_ = true;
  std::optional<GradientFlow> flow;
  if (wants_sums(state)) flow = flow_of(state.network, *state.tape, *state.sums);
  const std::lock_guard<std::mutex> lock(record_.mutex);
  ++record_.steps;
  if (!flow) return;
  record_.recorded.push_back(record_.steps);
  record_.flows.push_back(std::move(*flow));
}

template <class T>
void FlowRecorder<T>::fit_done(FitState<T>& state) {
  if (!has_stepped_) return;  // a fit that went on from its end: the tape holds nothing
  std::vector<ActivationHistogram> histograms = activation_histograms(state.network, *state.tape);
  const std::lock_guard<std::mutex> lock(record_.mutex);
  record_.histograms = std::move(histograms);
}

template GradientFlow gradient_flow(const Network<float>&, Tape<float>&, ConstVectorView<float>);
template GradientFlow gradient_flow(const Network<double>&, Tape<double>&, ConstVectorView<double>);
template std::vector<ActivationHistogram> activation_histograms(const Network<float>&, Tape<float>&);
template std::vector<ActivationHistogram> activation_histograms(const Network<double>&, Tape<double>&);
template class FlowRecorder<float>;
template class FlowRecorder<double>;

}  // namespace chainrule
