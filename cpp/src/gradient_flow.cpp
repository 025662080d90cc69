#include "chainrule/gradient_flow.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "checks.hpp"
#include "layout.hpp"
#include "tensor_sums.hpp"

namespace chainrule {

namespace {

using engine::Sums;

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
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto [low, high] = std::visit([](const auto& a) { return std::pair(a.low, a.high); }, activation);
  const double margin = (high - low) / 100;
  return low < high ? std::pair(low + margin, high - margin) : std::pair(-infinity, infinity);
}

/// The columns of a layer are cut into parts of so many, whatever the number of threads is: sums do not depend on it.
constexpr Index most_columns = 64;

/// What is added up over some columns of a layer.
struct ColumnSums {
  Sums activation;
  double delta_squares = 0;
};

/// Raises `peak` to the largest output of each column, unless it is null.
template <class T>
ColumnSums sums_of_columns(const Network<T>& network, Tape<T>& tape, Index l, Range columns, T shift, T* peak) {
  const MatrixView<T> a = tape.activation(l), delta = tape.delta(l);
  const auto [low, high] = unsaturated(network.activation(l));
  ColumnSums sums;
  T highest[most_columns];
  kernels<T>().activation_sums(a.rows(), columns.size(), {a.data() + columns.begin, a.outerStride()}, shift,
                               static_cast<T>(low), static_cast<T>(high), peak ? highest : nullptr, &sums.activation);
  for (Index c = 0; peak && c < columns.size(); ++c)
    if (!(highest[c] <= peak[c])) peak[c] = highest[c];
  Sums of_delta;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  kernels<T>().activation_sums(delta.rows(), columns.size(), {delta.data() + columns.begin, delta.outerStride()}, T(0),
                               -infinity, infinity, nullptr, &of_delta);
  sums.delta_squares = of_delta.squares;
  if (!squares_hold<T>(of_delta.squares, delta.rows() * columns.size()))
    sums.delta_squares =
        delta.middleCols(columns.begin, columns.size()).template cast<double>().squaredNorm();  // out of T's range
  return sums;
}

/// From the sums of W_1, b_1, W_2, ….
template <class T>
GradientFlowReport flow_of(const Network<T>& network, const LayerTotals<T>& totals,
                           const std::vector<TensorSums>& of_tensor, std::optional<double> loss) {
  GradientFlowReport flow{{}, totals.flows(), totals.rows(), loss};
  for (Index l = 1; l <= network.depth(); ++l) {
    const auto at = static_cast<std::size_t>(2 * (l - 1));
    flow.parameters.push_back(flow_of(of_tensor[at], network.weight(l).size()));
    flow.parameters.push_back(flow_of(of_tensor[at + 1], network.units(l)));
  }
  return flow;
}

}  // namespace

template <class T>
void LayerTotals<T>::clear() {
  rows_ = 0;
  layers_.clear();
}

template <class T>
void LayerTotals<T>::add(Tape<T>& tape) {
  const Index depth = network_.depth();
  if (layers_.empty()) {
    layers_.resize(static_cast<std::size_t>(depth));
    for (Index l = 1; l <= depth; ++l) {
      Layer& layer = layers_[static_cast<std::size_t>(l - 1)];
      if (const T first = tape.activation(l)(0, 0); std::isfinite(first)) layer.shift = first;
      if (std::visit([](const auto& a) { return a.may_die; }, network_.activation(l)))
        layer.peak.assign(static_cast<std::size_t>(network_.units(l)), T(0));
    }
  }
  struct Part {
    Index l;
    Range columns;
  };
  std::vector<Part> parts;
  double numbers = 0;
  for (Index l = 1; l <= depth; ++l) {
    const Index units = network_.units(l), count = parts_of(units, most_columns);
    for (Index i = 0; i < count; ++i) parts.push_back({l, part(units, count, i)});
    numbers += 2.0 * static_cast<double>(units * tape.rows());
  }
  std::vector<ColumnSums> of_part(parts.size());
  parallel(static_cast<std::ptrdiff_t>(parts.size()), threads_for(4 * numbers), [&](std::ptrdiff_t i) {
    const auto& [l, columns] = parts[static_cast<std::size_t>(i)];
    Layer& layer = layers_[static_cast<std::size_t>(l - 1)];
    of_part[static_cast<std::size_t>(i)] = sums_of_columns(
        network_, tape, l, columns, layer.shift, layer.peak.empty() ? nullptr : layer.peak.data() + columns.begin);
  });
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Layer& layer = layers_[static_cast<std::size_t>(parts[i].l - 1)];
    layer.plain += of_part[i].activation.plain;
    layer.squares += of_part[i].activation.squares;
    layer.outside += of_part[i].activation.outside;
    layer.delta_squares += of_part[i].delta_squares;
  }
  rows_ += tape.rows();
}

template <class T>
std::vector<LayerFlow> LayerTotals<T>::flows() const {
  if (layers_.empty()) {
    constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
    return std::vector<LayerFlow>(static_cast<std::size_t>(network_.depth()), {{}, {}, nothing, nothing, nothing});
  }
  std::vector<LayerFlow> flows;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const Activation& activation = network_.activation(static_cast<Index>(i) + 1);
    const double units = static_cast<double>(network_.units(static_cast<Index>(i) + 1));
    const double n = units * static_cast<double>(rows_), mean = layer.plain / n;
    const double variance = layer.squares / n - mean * mean;
    LayerFlow flow{
        {}, {}, static_cast<double>(layer.shift) + mean, variance < 0 ? 0 : variance, std::sqrt(layer.delta_squares)};
    if (std::isfinite(unsaturated(activation).first)) flow.saturated = static_cast<double>(layer.outside) / n;
    if (!layer.peak.empty())
      flow.dead = static_cast<double>(std::count(layer.peak.begin(), layer.peak.end(), T(0))) / units;
    flows.push_back(flow);
  }
  return flows;
}

template <class T>
GradientFlowReport gradient_flow(const Network<T>& network, Tape<T>& tape, ConstVectorView<T> gradient,
                                 std::optional<double> loss) {
  check_tape(network, tape, tape.rows(), {.inputs = false});
  check_size(network, "gradient", gradient.size());
  LayerTotals<T> totals(network);
  totals.add(tape);
  return flow_of(network, totals, tensor_sums(network, gradient.data()), loss);
}

template <class T>
std::vector<ActivationHistogram> activation_histograms(const Network<T>& network, Tape<T>& tape) {
  check_tape(network, tape);
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
    // In parts of the range, which itself may overflow.
    const double width = high / bins - low / bins;
    each([&](double value) {
      const auto bin = width > 0 ? static_cast<Index>((value / bins - low / bins) / width * bins) : 0;
      ++histogram.counts[static_cast<std::size_t>(std::min(bin, bins - 1))];
    });
    histograms.push_back(std::move(histogram));
  }
  return histograms;
}

FlowRecord::FlowRecord(std::optional<Index> every) : every(every) {
  if (every && *every < 1)
    throw std::invalid_argument("every is " + std::to_string(*every) + "; expected at least 1, or none");
}

template <class T>
bool FlowRecorder<T>::wants_sums(const FitState<T>& state) const {
  if (&state.network != &network_) throw std::invalid_argument("the recorder was made for another network");
  return record_.every ? number(state) % *record_.every == 0 : state.last_of_epoch;
}

template <class T>
void FlowRecorder<T>::step_done(FitState<T>& state) {
  std::optional<GradientFlowReport> flow;
  std::vector<ActivationHistogram> histograms;
  if (state.sums && wants_sums(state)) {
    flow = flow_of(state.network, totals_, *state.sums, state.loss);
    // Where each step is recorded, the last one's are soon enough.
    if (record_.every.value_or(1) > 1 || state.left_out) histograms = activation_histograms(state.network, *state.tape);
  }
  totals_.clear();
  const std::lock_guard<std::mutex> lock(record_.mutex);
  record_.steps = number(state);
  if (!flow) return;
  if (!record_.every && recorded_epoch_ == state.epoch) {  // that was not the epoch's last step
    record_.recorded.pop_back();
    record_.flows.pop_back();
  }
  recorded_epoch_ = state.epoch;
  record_.recorded.push_back(record_.steps);
  record_.flows.push_back(std::move(*flow));
  record_.histograms = std::move(histograms);
}

template <class T>
void FlowRecorder<T>::fit_done(FitState<T>& state) {
  std::vector<ActivationHistogram> histograms;
  // The tape still holds the last step that had weight.
  const bool at_hand = !record_.recorded.empty() && record_.recorded.back() == record_.steps &&
                       record_.steps > steps_before_ && record_.histograms.empty();
  if (at_hand) histograms = activation_histograms(state.network, *state.tape);
  const std::lock_guard<std::mutex> lock(record_.mutex);
  record_.steps = number(state);
  if (at_hand) record_.histograms = std::move(histograms);
}

template GradientFlowReport gradient_flow(const Network<float>&, Tape<float>&, ConstVectorView<float>,
                                          std::optional<double>);
template GradientFlowReport gradient_flow(const Network<double>&, Tape<double>&, ConstVectorView<double>,
                                          std::optional<double>);
template std::vector<ActivationHistogram> activation_histograms(const Network<float>&, Tape<float>&);
template std::vector<ActivationHistogram> activation_histograms(const Network<double>&, Tape<double>&);
template class LayerTotals<float>;
template class LayerTotals<double>;
template class FlowRecorder<float>;
template class FlowRecorder<double>;

}  // namespace chainrule
