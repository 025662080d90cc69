#include "chainrule/gradient_check.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "chainrule/backprop.hpp"
#include "chainrule/predict.hpp"
#include "number.hpp"
#include "parameter_name.hpp"

namespace chainrule {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

template <class T>
GradientCheck check_gradients(const Network<T>& network, const Loss& loss, const Samples<T>& samples, double eps,
                              const BetweenBlocks& between) {
  if (!(eps > 0)) throw std::invalid_argument("eps is " + text_of(eps) + "; expected a number > 0");
  GradientCheck result{};

  const Index n = samples.X.rows();
  const TapeContents contents{.inputs = !samples.X.mostly_zeros()};
  Tape<T> tape(network, rows_at_a_time(network, n, contents), contents);
  Vector<T> backprop(network.parameter_count());
  auto start = std::chrono::steady_clock::now();
  gradient(network, loss, Batch<T>{samples, n}, tape, VectorView<T>(backprop.data(), backprop.size()));
  result.backprop_seconds = seconds_since(start);

  Network<double> twin(network.inputs(), network.layers());
  twin.parameters() = network.parameters().template cast<double>();
  Matrix<double> X(n, samples.X.cols());
  Vector<T> x(samples.X.cols());
  for (Index i = 0; i < n; ++i) {
    samples.X.load(i, x.data());
    X.row(i) = x.template cast<double>();
  }
  Matrix<double> y(n, samples.y.columns);
  if (samples.y.values)
    y = ConstMatrixView<T>(samples.y.values, n, samples.y.columns, Eigen::OuterStride<>(samples.y.stride))
            .template cast<double>();
  Vector<double> weight(samples.sample_weight ? n : 0);
  for (Index i = 0; i < weight.size(); ++i) weight[i] = static_cast<double>(samples.sample_weight[i]);
  const Samples<double> same{{X.data(), n, X.cols(), Eigen::OuterStride<>(X.cols())},
                             samples.y.labels ? Targets<double>(samples.y.labels, n) : Targets<double>(y),
                             samples.sample_weight ? weight.data() : nullptr};

  Vector<double> differences(network.parameter_count());
  start = std::chrono::steady_clock::now();
  for (Index i = 0; i < differences.size(); ++i) {
    if (i > 0 && between) between();
    double& theta = twin.parameters()[i];
    const double before = theta;
    theta = before + eps;
    const double above = evaluate(twin, loss, same);
    theta = before - eps;
    const double below = evaluate(twin, loss, same);
    theta = before;
    differences[i] = (above - below) / (2 * eps);
  }
  result.differences_seconds = seconds_since(start);
  result.forward_passes = 2 * differences.size();

  const auto compare = [&](std::string name, Index first, Index size) {
    const Vector<double> ours = backprop.segment(first, size).template cast<double>();
    const double scale = std::max(ours.norm(), differences.segment(first, size).norm());
    const double error = (ours - differences.segment(first, size)).norm();
    const double relative = error == 0 ? 0 : error / scale;
    result.parameters.push_back({std::move(name), relative});
    // A NaN stays.
    if (!(relative <= result.max_relative_error) && !std::isnan(result.max_relative_error))
      result.max_relative_error = relative;
  };
  for (Index l = 1; l <= network.depth(); ++l) {
    compare(weight_name(l), network.offset(l), network.weight(l).size());
    compare(bias_name(l), network.bias_offset(l), network.units(l));
  }
  return result;
}

template GradientCheck check_gradients(const Network<float>&, const Loss&, const Samples<float>&, double,
                                       const BetweenBlocks&);
template GradientCheck check_gradients(const Network<double>&, const Loss&, const Samples<double>&, double,
                                       const BetweenBlocks&);

}  // namespace chainrule
