#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <chainrule/chainrule.hpp>
#include <cmath>
#include <concepts>
#include <memory>
#include <string>
#include <utility>

#include "arrays.hpp"
#include "constructed.hpp"
#include "cutting.hpp"
#include "exclusive.hpp"
#include "gradient_flow.hpp"
#include "interpreter.hpp"
#include "number.hpp"
#include "optimizers.hpp"
#include "row_blocks.hpp"
#include "values.hpp"

namespace chainrule::bindings {

struct AnyModel {
  virtual ~AnyModel() = default;
};

/// A network with all that Python keeps beside it: the loss, the last tape and the last gradient.
template <class T>
class Model : public AnyModel {
 public:
  Model(const std::vector<Index>& layer_sizes, const std::vector<Activation>& activations, Loss loss,
        const std::vector<Init>& inits, std::uint64_t seed, std::vector<double> dropout)
      : loss_(std::move(loss)), seed_(seed) {
    if (layer_sizes.size() < 2 || activations.size() != layer_sizes.size() - 1)
      throw py::value_error("layer_sizes has " + std::to_string(layer_sizes.size()) + " entries and activations " +
                            std::to_string(activations.size()) + "; expected at least 2, and one less");
    check_output(loss_, activations.back(), layer_sizes.back());
    for (const Activation& activation : activations)
      if (parameter_name(activation)) check_range(parameter_name(activation), parameter(activation));
    for (const double value : chainrule::parameters(loss_))
      check_range("the parameter of loss '" + std::string(name(loss_)) + "'", value);
    for (const Init& init : inits)
      if (const std::optional<double> value = parameter(init)) check_range("the parameter of init", *value);
    std::vector<Layer> layers;
    dropout.resize(activations.size());
    for (std::size_t i = 0; i < activations.size(); ++i)
      layers.push_back({layer_sizes[i + 1], activations[i], dropout[i]});
    network_ = std::make_shared<Network<T>>(layer_sizes.front(), std::move(layers));
    const Released released;
    if (!inits.empty()) initialise(*network_, inits, seed);
  }

  Model(const Model& other)
      : network_(std::make_shared<Network<T>>(*other.network_)),
        loss_(other.loss_),
        seed_(other.seed_),
        epochs_trained_(other.epochs_trained_),
        rows_drawn_(other.rows_drawn_) {}

  std::vector<Index> layer_sizes() const {
    std::vector<Index> sizes{network_->inputs()};
    for (const Layer& layer : network_->layers()) sizes.push_back(layer.units);
    return sizes;
  }
  std::vector<Activation> activations() const {
    std::vector<Activation> result;
    for (const Layer& layer : network_->layers()) result.push_back(layer.activation);
    return result;
  }
  std::vector<double> dropout() const {
    std::vector<double> result;
    for (Index l = 1; l < network_->depth(); ++l) result.push_back(network_->dropout(l));
    return result;
  }
  Network<T>& network() { return *network_; }
  const Network<T>& network() const { return *network_; }
  const Loss& loss() const { return loss_; }
  std::uint64_t seed() const { return seed_; }
  void set_seed(std::uint64_t seed) { seed_ = seed; }
  Index parameter_count() const { return network_->parameter_count(); }
  Index epochs_trained() const { return epochs_trained_; }
  void set_epochs_trained(Index epochs) { epochs_trained_ = epochs; }
  Index rows_drawn() const { return rows_drawn_; }
  void set_rows_drawn(Index rows) { rows_drawn_ = rows; }

  // Views.

  py::array_t<T> parameters() const {
    return vector_view(network_->parameters().data(), parameter_count(), keep_parameters());
  }
  py::list weights() const { return weight_views(network_->parameters().data(), keep_parameters()); }
  py::list biases() const { return bias_views(network_->parameters().data(), keep_parameters()); }
  py::array_t<T> gradient() {
    const auto g = last_gradient();
    return vector_view(g->data(), parameter_count(), keep_alive(g, g->data(), parameter_count()));
  }
  py::list weight_gradients() {
    const auto g = last_gradient();
    return weight_views(g->data(), keep_alive(g, g->data(), parameter_count()));
  }
  py::list bias_gradients() {
    const auto g = last_gradient();
    return bias_views(g->data(), keep_alive(g, g->data(), parameter_count()));
  }

  py::list tape_activations() { return tape_views(0, ran_forward_, "forward(X)", &Tape<T>::activation); }
  py::list tape_pre_activations() { return tape_views(1, ran_forward_, "forward(X)", &Tape<T>::pre_activation); }
  py::list tape_deltas() { return tape_views(1, has_gradient_, "backward(y)", &Tape<T>::delta); }

  // The algorithm.

  py::array_t<T> forward(const py::object& X) {
    const InputsIn<T> in = inputs(X);
    const Index rows = in.rows();
    py::array_t<T> output({rows, network_->outputs()});
    T* to = output.mutable_data();
    const Exclusive exclusive(lock_);
    make_tape(rows, {.pre_activations = true});
    chainrule::forward<T>(*network_, in.view(), *tape_);
    ran_forward_ = true;
    has_gradient_ = false;
    MatrixView<T>(to, rows, network_->outputs(), Eigen::OuterStride<>(network_->outputs())) =
        tape_->activation(network_->depth());
    return output;
  }

  double backward(const py::object& y, const py::object& sample_weight, std::optional<double> lr) {
    if (lr && !std::isfinite(static_cast<T>(*lr)))
      throw py::value_error("lr is " + text_of(*lr) + "; expected a number within the range of the network's dtype");
    const Index rows = rows_of_forward("backward");
    const TargetsIn<T> in = bindings::targets<T>(y, "y", rows, "the last forward's X", network_->outputs(), loss_);
    const WeightsIn<T> weight = bindings::weights<T>(sample_weight, "sample_weight", rows, "the last forward's X");
    const Exclusive exclusive(lock_);
    require_rows(rows);
    const double loss = chainrule::backward<T>(*network_, loss_, in.view(), weight.data, *tape_, make_gradient());
    has_gradient_ = true;
    last_loss_ = loss;
    if (lr) network_->parameters() -= static_cast<T>(*lr) * VectorView<T>(gradient_->data(), gradient_->size());
    return loss;
  }

  py::array_t<T> pullback(const py::object& grad_output) {
    const Index rows = rows_of_forward("pullback");
    const MatrixIn<T> in = matrix<T>(grad_output, "grad_output", network_->outputs(), "this network gives");
    if (in.rows != rows)
      throw py::value_error("grad_output has " + std::to_string(in.rows) + " rows; the last forward's X has " +
                            std::to_string(rows));
    py::array_t<T> result({in.rows, network_->inputs()});
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    require_rows(rows);
    const Matrix<T> grad_input = chainrule::pullback<T>(*network_, in.view(), *tape_, make_gradient());
    has_gradient_ = true;
    last_loss_.reset();
    std::copy_n(grad_input.data(), grad_input.size(), to);
    return result;
  }

  py::array_t<T> predict(const py::object& X) const {
    const InputsIn<T> in = inputs(X);
    py::array_t<T> output({in.rows(), network_->outputs()});
    T* to = output.mutable_data();
    // To let go of the interpreter for a microsecond would take about as long.
    std::optional<Released> released;
    if (in.rows() * parameter_count() > 10000) released.emplace();
    chainrule::predict<T>(*network_, in.view(), to, check_signals);
    return output;
  }

  double evaluate(const py::object& X, const py::object& y, const py::object& sample_weight) const {
    const SamplesIn<T> in = samples(X, y, sample_weight);
    const Released released;
    return chainrule::evaluate(*network_, loss_, in.view(), check_signals);
  }

  double step(const py::object& X, const py::object& y, AnyOptimizer& optimizer, const py::object& sample_weight) {
    const SamplesIn<T> in = samples(X, y, sample_weight);
    const AtWork<T> mine(optimizer, *network_);
    const Exclusive exclusive(lock_);
    const MaskDraw draw = make_tape_of_step(in.view());
    forget();
    const Batch<T> batch{in.view(), in.X.rows()};
    const double loss = chainrule::step(*network_, loss_, batch, *tape_, *mine);
    if (!std::isfinite(loss)) {
      const NonFinite overall{.layer = network_->depth(), .value = loss, .loss = loss};
      throw NonFiniteError(find_non_finite(*network_, loss_, batch, {}, draw).value_or(overall));
    }
    return loss;
  }

  /// A function that gives the loss on these samples, which are checked here once and must not change, and its gradient
  /// as a new vector.
  py::cpp_function loss_and_gradient(const py::object& X, const py::object& y, const py::object& sample_weight) {
    const py::object alive = py::cast(this, py::return_value_policy::reference);
    const auto in = samples(X, y, sample_weight);
    const Index rows = in.X.rows();
    SparseColumns<T> columns;
    const Samples<T> all = in.view();
    // Of parts of the samples a step finds them itself.
    const bool found = all.X.mostly_zeros() && rows_at_a_time(*network_, rows, {.inputs = false}) == rows;
    if (found) columns.load({all, rows}, 0, network_->inputs() + 1);
    return py::cpp_function([this, alive, in, all, rows, found, columns = std::move(columns)] {
      py::array_t<T> result(parameter_count());
      const VectorView<T> to(result.mutable_data(), parameter_count());
      double loss = 0;
      {
        const Exclusive exclusive(lock_);
        make_tape_of_step(all);
        forget();
        const Batch<T> batch{all, rows, nullptr, 0, found ? &columns : nullptr};
        loss = chainrule::gradient<T>(*network_, loss_, batch, *tape_, to);
      }
      return std::make_pair(loss, std::move(result));
    });
  }

  void apply(AnyOptimizer& optimizer) {
    const auto g = last_gradient();
    const AtWork<T> mine(optimizer, *network_);
    const Exclusive exclusive(lock_);
    (*mine).step(*network_, {g->data(), parameter_count()});
  }

  py::dict gradient_flow() {
    GradientFlowReport flow;
    std::vector<ActivationHistogram> histograms;
    {
      const Exclusive exclusive(lock_);
      flow = chainrule::gradient_flow<T>(*network_, *tape_, {gradient_data(), parameter_count()}, last_loss_);
      histograms = activation_histograms(*network_, *tape_);
    }
    return as_dict(flow, histograms);
  }

  // What training and the derivatives need.

  /// To be held while the model is changed or its tapes are in use.
  Lock& lock() { return lock_; }

  static constexpr const char* taker = "this network takes";

  InputsIn<T> inputs(const py::object& X, const char* name = "X") const {
    return bindings::inputs<T>(X, name, network_->inputs(), taker);
  }

  /// With `all` false they are a part of those that train.
  SamplesIn<T> samples(const py::object& X, const py::object& y, const py::object& sample_weight,
                       const char* X_name = "X", const char* y_name = "y", const char* weight_name = "sample_weight",
                       bool all = true) const {
    SamplesIn<T> in;
    in.X = inputs(X, X_name);
    in.y = bindings::targets<T>(y, y_name, in.X.rows(), X_name, network_->outputs(), loss_);
    in.weight = bindings::weights<T>(sample_weight, weight_name, in.X.rows(), X_name, all);
    return in;
  }

  /// What the last forward and backward pass left is over.
  void forget() { ran_forward_ = has_gradient_ = false; }

  /// The tape, made large enough; until it is given back the model makes another where it needs one.
  std::shared_ptr<Tape<T>> take_tape(Index rows, TapeContents contents) {
    grow_tape(rows, contents);
    return std::exchange(tape_, nullptr);
  }
  void give_tape(std::shared_ptr<Tape<T>> tape) { tape_ = std::move(tape); }

  /// A tape for calls that leave the last forward and backward pass as they are, and take rows as a step does; but no
  /// more than a block of two passes, the fewest that such a call makes.
  Tape<T>& scratch(Index rows) {
    const Index at_a_time =
        std::min(rows_at_a_time(*network_, rows), rows_of_block(2 * forward_operations(*network_, 1)));
    if (!scratch_ || !scratch_->fits(at_a_time)) scratch_ = std::make_unique<Tape<T>>(*network_, at_a_time);
    return *scratch_;
  }

  /// Another one, for directional derivatives.
  Tape<T>& directional(Index rows) {
    if (!directional_ || directional_->capacity() < rows)
      directional_ = std::make_unique<Tape<T>>(*network_, rows, TapeContents{.pre_activations = true});
    return *directional_;
  }

 private:
  py::capsule keep_parameters() const { return keep_alive(network_, network_->parameters().data(), parameter_count()); }
  /// Of a parameter that is not zero and has to be none of T's infinities or zeros.
  static void check_range(const std::string& what, double value) {
    if (const T own = static_cast<T>(value); value != 0 && (own == 0 || !std::isfinite(own)))
      throw py::value_error(what + " is " + text_of(value) +
                            "; expected a number within the range of the network's dtype");
  }
  /// Of the last forward pass.
  Index rows_of_forward(const char* what) {
    const Exclusive exclusive(lock_);
    if (!ran_forward_) throw std::runtime_error(std::string(what) + " needs a forward(X) before it");
    return tape_->rows();
  }
  /// Targets were looked at while others could go forward.
  void require_rows(Index rows) const {
    if (!ran_forward_ || tape_->rows() != rows)
      throw std::runtime_error("another forward(X), step or fit has come in between");
  }

  /// Views into an earlier tape keep that alive.
  void grow_tape(Index rows, TapeContents contents) {
    if (!tape_ || !tape_->fits(rows, contents)) tape_ = std::make_shared<Tape<T>>(*network_, rows, contents);
  }

  /// Makes the tape large enough, and ready for a batch with masks of its own.
  MaskDraw make_tape(Index rows, TapeContents contents) {
    grow_tape(rows, contents);
    return draw_masks(rows);
  }
  /// The same for a step, which may take the batch in parts.
  MaskDraw make_tape_of_step(const Samples<T>& samples) {
    const TapeContents contents{.inputs = !samples.X.mostly_zeros()};
    grow_tape(rows_at_a_time(*network_, samples.X.rows(), contents), contents);
    return draw_masks(samples.X.rows());
  }
  MaskDraw draw_masks(Index rows) {
    const MaskDraw draw{seed_, std::uint64_t{3} << 32, rows_drawn_};
    tape_->set_draw(draw);
    rows_drawn_ += rows;
    return draw;
  }

  VectorView<T> make_gradient() {
    if (!gradient_) gradient_ = std::make_shared<Buffer<T>>(parameter_count());
    return {gradient_->data(), gradient_->size()};
  }

  T* gradient_data() const {
    if (!has_gradient_) throw std::runtime_error("there is no gradient; run forward(X) and backward(y) first");
    return gradient_->data();
  }
  std::shared_ptr<Buffer<T>> last_gradient() {
    const Exclusive exclusive(lock_);
    gradient_data();
    return gradient_;
  }

  py::list weight_views(T* theta, const py::capsule& owner) const {
    py::list views;
    for (Index l = 1; l <= network_->depth(); ++l)
      views.append(matrix_view<T>({theta + network_->offset(l), network_->units(l - 1), network_->units(l),
                                   Eigen::OuterStride<>(network_->units(l))},
                                  owner));
    return views;
  }

  py::list bias_views(T* theta, const py::capsule& owner) const {
    py::list views;
    for (Index l = 1; l <= network_->depth(); ++l)
      views.append(vector_view(theta + network_->bias_offset(l), network_->units(l), owner));
    return views;
  }

  py::list tape_views(Index first, const bool& there, const char* needed, MatrixView<T> (Tape<T>::*of_layer)(Index)) {
    std::shared_ptr<Tape<T>> tape;
    {
      const Exclusive exclusive(lock_);
      if (!there) throw std::runtime_error(std::string("there is nothing to see yet; run ") + needed + " first");
      tape = tape_;
    }
    py::list views;
    for (Index l = first; l <= network_->depth(); ++l) {
      const MatrixView<T> view = (*tape.*of_layer)(l);
      views.append(matrix_view<T>(view, keep_alive(tape, view.data(), view.rows() * view.outerStride())));
    }
    return views;
  }

  std::shared_ptr<Network<T>> network_;
  Loss loss_;
  std::uint64_t seed_;
  Index epochs_trained_ = 0;
  Index rows_drawn_ = 0;  // masks that forward and step have used
  std::shared_ptr<Tape<T>> tape_;
  std::shared_ptr<Buffer<T>> gradient_;
  std::unique_ptr<Tape<T>> scratch_, directional_;
  bool ran_forward_ = false;         // the tape holds a whole forward pass
  bool has_gradient_ = false;        // and its backward pass
  std::optional<double> last_loss_;  // which that was of
  Lock lock_;
};

template <class T>
using ModelClass = py::class_<Model<T>, AnyModel>;

}  // namespace chainrule::bindings

template <std::derived_from<chainrule::bindings::AnyModel> T>
struct pybind11::detail::type_caster<T> : chainrule::bindings::ConstructedCaster<T> {};
