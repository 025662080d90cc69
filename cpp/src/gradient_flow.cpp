#include "chainrule/gradient_flow.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"

namespace chainrule {

namespace {

using engine::kernels;
using engine::parallel;
using engine::part;
using engine::Range;
using engine::Sums;
using engine::threads_for;

/// Work is cut into pieces of about this many numbers, whatever the number of threads is: sums do not depend on it.
constexpr Index piece = 16384;

/// The parameter tensors of a network: where they lie in θ.
struct Tensor {
  Index offset, size;
};

template <class T>
std::vector<Tensor> tensors_of(const Network<T>& network) {
  std::vector<Tensor> tensors;
  for (Index l = 1; l <= network.depth(); ++l) {
    tensors.push_back({network.offset(l), network.weight(l).size()});
    tensors.push_back({network.bias_offset(l), network.units(l)});
  }
  return tensors;
}

/// A share of one tensor's entries, or of one layer's columns.
struct Part {
  std::size_t of;
  Range range;
};

void cut(std::vector<Part>& parts, std::size_t of, Index size, Index largest) {
  const Index count = (size + largest - 1) / largest;
  for (Index i = 0; i < count; ++i) parts.push_back({of, part(size, count, i)});
}

/// With NaN or infinities among the entries, or squares that overflow: one by one.
template <class T>
ParameterFlow exact_flow(const T* gradient, Index size) {
  ParameterFlow flow{};
  double total = 0, largest = 0, scaled_squares = 0;
  Index zeros = 0;
  for (Index i = 0; i < size; ++i) {
    const double g = std::abs(static_cast<double>(gradient[i]));
    flow.nan += std::isnan(g);
    flow.inf += std::isinf(g);
    if (!std::isfinite(g)) continue;
    total += g;
    largest = std::max(largest, g);
    zeros += g == 0;
  }
  const Index finite = size - flow.nan - flow.inf;
  for (Index i = 0; i < size && largest > 0; ++i)
    if (const double g = static_cast<double>(gradient[i]) / largest; std::isfinite(g)) scaled_squares += g * g;
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  flow.mean_abs = finite > 0 ? total / static_cast<double>(finite) : nothing;
  flow.max_abs = finite > 0 ? largest : nothing;
  flow.norm = finite > 0 ? largest * std::sqrt(scaled_squares) : nothing;
  flow.zeros = static_cast<double>(zeros) / static_cast<double>(size);
  return flow;
}

template <class T>
ParameterFlow flow_of(const Sums& sums, const T* gradient, Index size) {
  const double n = static_cast<double>(size);
  if (!std::isfinite(sums.squares) || sums.squares < std::numeric_limits<T>::min()) return exact_flow(gradient, size);
  return {sums.absolute / n, sums.largest, std::sqrt(sums.squares), {}, static_cast<double>(sums.zeros) / n, 0, 0};
}

/// The ends of an activation's range, less a margin of 1 %; or of all numbers.
std::pair<double, double> unsaturated(const Activation& activation) {
  if (std::holds_alternative<Sigmoid>(activation)) return {0.01, 0.99};
  if (std::holds_alternative<Tanh>(activation)) return {-0.98, 0.98};
  return {-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
}

/// What is added up over some columns of a layer.
struct LayerSums {
  Sums activation;
  double delta_squares = 0;
  Index dead = 0;
};

template <class T>
LayerSums sums_of_columns(const Network<T>& network, Tape<T>& tape, Index l, Range columns) {
  constexpr Index most = 64;
  const MatrixView<T> a = tape.activation(l), delta = tape.delta(l);
  const auto [low, high] = unsaturated(network.activation(l));
  LayerSums sums;
  T peak[most];
  kernels<T>().activation_sums(a.rows(), columns.size(), {a.data() + columns.begin, a.outerStride()},
                               static_cast<T>(low), static_cast<T>(high), peak, &sums.activation);
  for (Index c = 0; c < columns.size(); ++c) sums.dead += peak[c] == T(0);
  Sums of_delta;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  kernels<T>().activation_sums(delta.rows(), columns.size(), {delta.data() + columns.begin, delta.outerStride()},
                               -infinity, infinity, peak, &of_delta);
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

}  // namespace

template <class T>
GradientFlow gradient_flow(const Network<T>& network, Tape<T>& tape, ConstVectorView<T> gradient) {
  const std::vector<Tensor> tensors = tensors_of(network);
  const auto depth = static_cast<std::size_t>(network.depth());
  std::vector<Part> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) cut(parts, i, tensors[i].size, piece);
  const std::size_t of_tensors = parts.size();
  double numbers = static_cast<double>(network.parameter_count());
  for (std::size_t l = 1; l <= depth; ++l) {
    cut(parts, l, network.units(static_cast<Index>(l)), 64);
    numbers += 2.0 * static_cast<double>(network.units(static_cast<Index>(l)) * tape.rows());
  }
  std::vector<Sums> of_part(of_tensors);
  std::vector<LayerSums> of_columns(parts.size() - of_tensors);
  parallel(static_cast<std::ptrdiff_t>(parts.size()), threads_for(8 * numbers), [&](std::ptrdiff_t index) {
    const auto i = static_cast<std::size_t>(index);
    const Part& part = parts[i];
    if (i < of_tensors)
      kernels<T>().gradient_sums(part.range.size(), gradient.data() + tensors[part.of].offset + part.range.begin,
                                 &of_part[i]);
    else
      of_columns[i - of_tensors] = sums_of_columns(network, tape, static_cast<Index>(part.of), part.range);
  });

  std::vector<Sums> of_tensor(tensors.size());
  std::vector<LayerSums> of_layer(depth + 1);
  for (std::size_t i = 0; i < of_tensors; ++i) {
    Sums& sums = of_tensor[parts[i].of];
    sums.absolute += of_part[i].absolute;
    sums.squares += of_part[i].squares;
    sums.largest = std::max(sums.largest, of_part[i].largest);
    sums.zeros += of_part[i].zeros;
  }
  for (std::size_t i = of_tensors; i < parts.size(); ++i) {
    const LayerSums& from = of_columns[i - of_tensors];
    LayerSums& sums = of_layer[parts[i].of];
    sums.activation.plain += from.activation.plain;
    sums.activation.squares += from.activation.squares;
    sums.activation.outside += from.activation.outside;
    sums.delta_squares += from.delta_squares;
    sums.dead += from.dead;
  }
  GradientFlow flow;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    flow.parameters.push_back(flow_of(of_tensor[i], gradient.data() + tensors[i].offset, tensors[i].size));
  for (std::size_t l = 1; l <= depth; ++l)
    flow.layers.push_back(flow_of(network, tape, static_cast<Index>(l), of_layer[l]));
  return flow;
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
void FlowRecorder<T>::gradient_ready(FitState<T>& state) {
  if (!wants_gradient(state)) return;
  const ConstVectorView<T> theta = std::as_const(state.network).parameters();
  now_ = gradient_flow<T>(state.network, *state.tape, {state.gradient, theta.size()});
  if (before_.size() == 0) before_ = Buffer<T>(theta.size());
  const Index pieces = theta.size() / piece + 1;
  parallel(pieces, threads_for(4.0 * static_cast<double>(theta.size())), [&](std::ptrdiff_t i) {
    const Range range = part(theta.size(), pieces, i);
    std::copy_n(theta.data() + range.begin, range.size(), before_.data() + range.begin);
  });
}

template <class T>
void FlowRecorder<T>::step_done(FitState<T>& state) {
  has_stepped_ = true;
  if (!now_) {
    const std::lock_guard<std::mutex> lock(record_.mutex);
    ++record_.steps;
    return;
  }
  const T* theta = state.network.parameters().data();
  const std::vector<Tensor> tensors = tensors_of(state.network);
  std::vector<Part> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) cut(parts, i, tensors[i].size, piece);
  std::vector<std::pair<double, double>> of_part(parts.size());
  const double operations = 4.0 * static_cast<double>(state.network.parameter_count());
  parallel(static_cast<std::ptrdiff_t>(parts.size()), threads_for(operations), [&](std::ptrdiff_t i) {
    const auto& [of, range] = parts[static_cast<std::size_t>(i)];
    const Index at = tensors[of].offset + range.begin;
    auto& [of_change, of_theta] = of_part[static_cast<std::size_t>(i)];
    kernels<T>().change_sums(range.size(), theta + at, before_.data() + at, &of_change, &of_theta);
  });
  std::vector<std::pair<double, double>> of_tensor(tensors.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    of_tensor[parts[i].of].first += of_part[i].first;
    of_tensor[parts[i].of].second += of_part[i].second;
  }
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (of_tensor[i].second > 0) now_->parameters[i].update_ratio = std::sqrt(of_tensor[i].first / of_tensor[i].second);
  const std::lock_guard<std::mutex> lock(record_.mutex);
  record_.recorded.push_back(++record_.steps);
  record_.flows.push_back(std::move(*now_));
  now_.reset();
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
