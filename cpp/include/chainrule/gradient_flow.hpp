#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "chainrule/trainer.hpp"

namespace chainrule {

/// The gradient of one parameter tensor. Figures are over the finite entries.
struct ParameterFlow {
  double mean_abs, max_abs, norm;
  std::optional<double> update_ratio;  // ‖Δθ‖/‖θ‖ of the step that followed
  double zeros;                        // share of the entries that are exactly zero
  Index nan, inf;
};

/// The outputs and δ of one layer, over the batch.
struct LayerFlow {
  std::optional<double> saturated;  // share of sigmoid/tanh outputs within 1 % of the range of an end
  std::optional<double> dead;       // share of ReLU units that are zero for every row
  double activation_mean, activation_variance;
  double delta_norm;  // Frobenius norm of δ_l
};

struct GradientFlowReport {
  std::vector<ParameterFlow> parameters;  // W_1, b_1, W_2, …
  std::vector<LayerFlow> layers;          // l = 1 … L
  Index rows = 0;                         // of the batch
  std::optional<double> loss;             // of the batch, unless dL/da_L was given
};

/// The sums behind the figures of the layers, over the parts of a batch that are on the tape one after another.
template <class T>
class LayerTotals {
 public:
  explicit LayerTotals(const Network<T>& network) : network_(network) {}

  /// The rows that are on the tape.
  void add(Tape<T>& tape);
  Index rows() const { return rows_; }
  /// For each layer; NaN without rows.
  std::vector<LayerFlow> flows() const;
  void clear();

 private:
  struct Layer {
    T shift = 0;  // sums of the outputs are of their distances from it
    double plain = 0, squares = 0, delta_squares = 0;
    Index outside = 0;
    std::vector<T> peak;  // of each unit that may die
  };

  const Network<T>& network_;
  Index rows_ = 0;
  std::vector<Layer> layers_;
};

/// How the gradient of the last backward pass runs through the layers.
template <class T>
GradientFlowReport gradient_flow(const Network<T>& network, Tape<T>& tape,
                                 ConstVectorView<T> gradient /* laid out like θ */, std::optional<double> loss = {});

/// How often the outputs a_l of the batch on the tape fall into even bins of [low, high]: of their range.
struct ActivationHistogram {
  double low, high;
  std::vector<Index> counts;
};
template <class T>
std::vector<ActivationHistogram> activation_histograms(const Network<T>& network, Tape<T>& tape);

/// The gradient flow of every so many steps, or of the last one of each epoch. Another thread may read it, under the
/// mutex, while a fit writes.
struct FlowRecord {
  /// std::invalid_argument for `every` below 1.
  explicit FlowRecord(std::optional<Index> every);

  const std::optional<Index> every;
  mutable std::mutex mutex;
  Index steps = 0;  // seen so far, over all fits
  std::vector<Index> recorded;
  std::vector<GradientFlowReport> flows;        // one for each of `recorded`
  std::vector<ActivationHistogram> histograms;  // of the last of them, or none yet
};

/// Keeps such a record, with the ratio of each update to its parameters. Steps that are left out count and are recorded
/// too.
template <class T>
class FlowRecorder : public Observer<T> {
 public:
  FlowRecorder(FlowRecord& record, const Network<T>& network)
      : record_(record), network_(network), steps_before_(record.steps), totals_(network) {}
  bool wants_sums(const FitState<T>& state) const override;
  void rows_done(FitState<T>& state) override { totals_.add(*state.tape); }
  void step_done(FitState<T>& state) override;
  void fit_done(FitState<T>& state) override;

 private:
  /// Which step it is, counted over all fits.
  Index number(const FitState<T>& state) const { return steps_before_ + state.step - state.steps_before; }

  FlowRecord& record_;
  const Network<T>& network_;
  const Index steps_before_;
  Index recorded_epoch_ = 0;  // of the last record; 0 before
  LayerTotals<T> totals_;
};

extern template class LayerTotals<float>;
extern template class LayerTotals<double>;
extern template class FlowRecorder<float>;
extern template class FlowRecorder<double>;

}  // namespace chainrule
