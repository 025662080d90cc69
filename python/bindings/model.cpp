#include <pybind11/stl.h>

#include <chainrule/chainrule.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "arrays.hpp"
#include "checkpoint.hpp"
#include "exclusive.hpp"
#include "fit_queue.hpp"
#include "flow.hpp"
#include "optimizers.hpp"
#include "register.hpp"
#include "schedules.hpp"
#include "selection.hpp"
#include "values.hpp"

namespace chainrule::bindings {

namespace {

constexpr const char* taker = "this network takes";

/// Asks Python about Ctrl-C a few dozen times a second.
template <class T>
class Interruption : public Observer<T> {
 public:
  void step_done(FitState<T>&) override {
    if (++steps_ < steps_between_) return;
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> passed = now - last_;
    const double pace = passed.count() > 0 ? 0.02 / passed.count() : 2;
    steps_between_ = std::max<Index>(1, static_cast<Index>(static_cast<double>(steps_between_) * std::min(2.0, pace)));
    steps_ = 0;
    last_ = now;
    check_signals();
  }

 private:
  Index steps_ = 0, steps_between_ = 1;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// Counts the epochs of a model and tells Python of each.
template <class T>
class EpochReport : public Observer<T> {
 public:
  EpochReport(const py::object& on_epoch, const AnyOptimizer& optimizer, Index& epochs_trained)
      : on_epoch_(on_epoch), optimizer_(optimizer), epochs_trained_(epochs_trained) {}

  void epoch_done(FitState<T>& state) override {
    ++epochs_trained_;
    if (on_epoch_.is_none()) return;
    const py::gil_scoped_acquire acquire;
    const py::object stop =
        on_epoch_(state.epoch, state.loss, state.validation_loss, state.optimizer.lr(), state.penalty);
    if (py::bool_(stop)) state.stop = true;
    state.optimizer.set_rule(optimizer_.rule());  // which the callback may have changed
    state.optimizer.attach(state.network);
    state.lr = state.optimizer.lr();
  }

 private:
  const py::object& on_epoch_;
  const AnyOptimizer& optimizer_;
  Index& epochs_trained_;
};

/// The processes behind a Python object with the members of Ranks and `sum(array)`, which adds up in place.
class RanksIn : public Ranks {
 public:
  explicit RanksIn(const py::object& ranks)
      : Ranks(ranks.attr("rank").cast<Index>(), ranks.attr("size").cast<Index>(), ranks.attr("first").cast<Index>(),
              ranks.attr("rows").cast<Index>(), ranks.attr("reproducible").cast<bool>()),
        sum_(ranks.attr("sum")) {}
  void sum(float* values, Index count) override { sum_of(values, count); }
  void sum(double* values, Index count) override { sum_of(values, count); }

 private:
  template <class T>
  void sum_of(T* values, Index count) {
    const py::gil_scoped_acquire acquire;
    sum_(vector_view<T>(values, count, py::none()));
  }

  py::object sum_;
};

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
    const Index quantiles = outputs_per_target(loss_);
    if (layer_sizes.back() % quantiles != 0)
      throw py::value_error("layer_sizes ends in " + std::to_string(layer_sizes.back()) +
                            "; expected a multiple of the number of quantiles, " + std::to_string(quantiles));
    check_output(activations.back());
    std::vector<Layer> layers;
    dropout.resize(activations.size());
    for (std::size_t i = 0; i < activations.size(); ++i)
      layers.push_back({layer_sizes[i + 1], activations[i], dropout[i]});
    network_ = std::make_shared<Network<T>>(layer_sizes.front(), std::move(layers));
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
  const Loss& loss() const { return loss_; }
  std::uint64_t seed() const { return seed_; }
  Index parameter_count() const { return network_->parameter_count(); }
  Index epochs_trained() const { return epochs_trained_; }
  void set_epochs_trained(Index epochs) { epochs_trained_ = epochs; }

  // Views.

  py::array_t<T> parameters() const {
    return vector_view(network_->parameters().data(), parameter_count(), keep_alive(network_));
  }
  py::list weights() const { return weight_views(network_->parameters().data(), keep_alive(network_)); }
  py::list biases() const { return bias_views(network_->parameters().data(), keep_alive(network_)); }
  py::array_t<T> gradient() {
    const auto g = last_gradient();
    return vector_view(g->data(), parameter_count(), keep_alive(g));
  }
  py::list weight_gradients() {
    const auto g = last_gradient();
    return weight_views(g->data(), keep_alive(g));
  }
  py::list bias_gradients() {
    const auto g = last_gradient();
    return bias_views(g->data(), keep_alive(g));
  }

  py::list tape_activations() { return tape_views(0, ran_forward_, "forward(X)", &Tape<T>::activation); }
  py::list tape_pre_activations() { return tape_views(1, ran_forward_, "forward(X)", &Tape<T>::pre_activation); }
  py::list tape_deltas() { return tape_views(1, has_gradient_, "backward(y)", &Tape<T>::delta); }

  // The algorithm.

  py::array_t<T> forward(const py::object& X) {
    const InputsIn<T> in = inputs<T>(X, "X", network_->inputs(), taker);
    const Index rows = in.rows();
    py::array_t<T> output({rows, network_->outputs()});
    T* to = output.mutable_data();
    const Exclusive exclusive(lock_);
    make_tape(rows, true, true);
    if (in.sparse)
      chainrule::forward<T>(*network_, *in.sparse, *tape_);
    else
      chainrule::forward<T>(*network_, in.dense.view(), *tape_);
    ran_forward_ = true;
    has_gradient_ = false;
    MatrixView<T>(to, rows, network_->outputs(), Eigen::OuterStride<>(network_->outputs())) =
        tape_->activation(network_->depth());
    return output;
  }

  double backward(const py::object& y, const py::object& sample_weight, std::optional<double> lr) {
    if (lr && !std::isfinite(static_cast<T>(*lr)))
      throw py::value_error("lr is " + std::string(py::str(py::float_(*lr))) +
                            "; expected a number within the range of the network's dtype");
    const Index rows = rows_of_forward("backward");
    const TargetsIn<T> in = bindings::targets<T>(y, "y", rows, "the last forward's X", network_->outputs(), loss_);
    const WeightsIn<T> weight = bindings::weights<T>(sample_weight, "sample_weight", rows, "the last forward's X");
    const Exclusive exclusive(lock_);
    require_rows(rows);
    const double loss = chainrule::backward<T>(*network_, loss_, in.view(), weight.data, *tape_, make_gradient());
    has_gradient_ = true;
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
    std::copy_n(grad_input.data(), grad_input.size(), to);
    return result;
  }

  py::array_t<T> predict(const py::object& X) const {
    const InputsIn<T> in = inputs<T>(X, "X", network_->inputs(), taker);
    py::array_t<T> output({in.rows(), network_->outputs()});
    T* to = output.mutable_data();
    const py::gil_scoped_release release;
    if (in.sparse)
      chainrule::predict<T>(*network_, *in.sparse, to);
    else
      chainrule::predict<T>(*network_, in.dense.view(), to);
    return output;
  }

  double evaluate(const py::object& X, const py::object& y, const py::object& sample_weight) const {
    const SamplesIn in = samples(X, y, sample_weight);
    const py::gil_scoped_release release;
    return chainrule::evaluate(*network_, loss_, in.view());
  }

  double step(const py::object& X, const py::object& y, AnyOptimizer& optimizer, const py::object& sample_weight) {
    const SamplesIn in = samples(X, y, sample_weight);
    const AtWork<T> mine(optimizer, *network_);
    const Exclusive exclusive(lock_);
    const MaskDraw draw = make_tape(in.X.rows(), false, !in.view().X.mostly_zeros());
    ran_forward_ = has_gradient_ = false;
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
    SparseColumns<T> columns;
    if (in.view().X.mostly_zeros()) columns.load({in.view(), in.X.rows()}, 0, network_->inputs() + 1);
    return py::cpp_function([this, alive, in, columns = std::move(columns)] {
      py::array_t<T> result(parameter_count());
      const VectorView<T> to(result.mutable_data(), parameter_count());
      double loss = 0;
      {
        const Exclusive exclusive(lock_);
        const bool sparse = in.view().X.mostly_zeros();
        make_tape(in.X.rows(), false, !sparse);
        ran_forward_ = has_gradient_ = false;
        const Batch<T> batch{in.view(), in.X.rows(), nullptr, 0, sparse ? &columns : nullptr};
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

  /// Trains, or leaves that to a queue. `rows` and `validation_rows` say which of the samples take part; by default
  /// all. `checkpoint` is called with a fit's progress; `resume` is such progress, with model and optimizer as of then.
  std::optional<py::dict> fit(const py::object& X, const py::object& y, Index epochs, Index batch_size,
                              const py::object& optimizer_object, bool shuffle, const py::object& sample_weight,
                              const std::optional<py::tuple>& validation, std::optional<Index> patience,
                              const AnySchedule* schedule, std::optional<double> clip_norm, const py::object& on_epoch,
                              double loss_weight, double l2, const std::optional<std::vector<Index>>& rows,
                              const std::optional<std::vector<Index>>& validation_rows, FitQueue* queue,
                              const py::object& checkpoint, Index checkpoint_every,
                              const std::optional<py::dict>& resume, FlowRecord* monitor,
                              const std::string& on_nonfinite, std::optional<Index> micro_batch,
                              const py::object& ranks, const py::object& source) {
    auto& optimizer = optimizer_object.cast<AnyOptimizer&>();
    std::optional<SamplesIn> in;
    if (source.is_none()) in = samples(X, y, sample_weight, "X", "y", "sample_weight", ranks.is_none());
    std::optional<SamplesIn> held_out;
    if (validation) {
      const py::tuple& v = *validation;
      if (v.size() != 2 && v.size() != 3)
        throw py::value_error("validation has " + std::to_string(v.size()) +
                              " entries; expected (X, y) or (X, y, sample_weight)");
      held_out = samples(v[0], v[1], v.size() == 3 ? py::object(v[2]) : py::object(py::none()), "validation X",
                         "validation y", "validation sample_weight", ranks.is_none());
    } else if (validation_rows) {
      held_out = in;
    }
    if (in) Selection<T>::check(in->view(), rows);
    if (held_out) Selection<T>::check(held_out->view(), validation_rows);
    FitProgress<T> progress;
    if (resume) {
      progress = fit_progress<T>(*resume);
      {
        const AtWork<T> not_of_another(optimizer, *network_);
      }
      restore(*resume, optimizer, progress.history.epochs);
    }
    const auto mine = std::make_shared<AtWork<T>>(optimizer, *network_, optimizer_object);
    FitOptions options;
    options.epochs = epochs;
    options.batch_size = batch_size;
    options.shuffle = shuffle;
    options.seed = seed_;
    options.epochs_before = epochs_trained_ - progress.history.epochs;
    options.patience = patience;
    if (schedule) options.schedule = schedule->schedule;
    options.clip_norm = clip_norm;
    options.objective = {loss_weight, l2};
    if (on_nonfinite != "raise")
      options.on_non_finite = on_nonfinite == "stop" ? OnNonFinite::stop : OnNonFinite::ignore;
    options.micro_batch = micro_batch;
    std::optional<RanksIn> together;
    if (!ranks.is_none()) {
      options.ranks = &together.emplace(ranks);
      if (!resume) options.seed = ranks.attr("seed").cast<std::uint64_t>();
    }
    const auto run = [=, this](const std::vector<Observer<T>*>& observers) {
      const Forget forget(*this);
      std::optional<Selection<T>> chosen_held_out;
      if (held_out) chosen_held_out.emplace(held_out->view(), validation_rows);
      const Samples<T>* const validation_samples = chosen_held_out ? &chosen_held_out->samples() : nullptr;
      if (!in) {
        SourceIn blocks(*this, source);
        return chainrule::fit<T>(*network_, loss_, blocks, validation_samples, **mine, options, observers, progress);
      }
      const Selection<T> chosen(in->view(), rows);
      const Inputs<T>& chosen_X = chosen.samples().X;
      grow_tape(std::min({batch_size, micro_batch.value_or(batch_size), chosen_X.rows()}), false,
                !chosen_X.mostly_zeros());
      return chainrule::fit<T>(*network_, loss_, chosen.samples(), validation_samples, **mine, options, observers,
                               progress, tape_);
    };
    if (queue) {
      const py::tuple alive = py::make_tuple(py::cast(this, py::return_value_policy::reference), optimizer_object);
      queue->add([run, alive, this, on_epoch, &optimizer](FitSignals& signals) {
        const Held held(lock_);
        EpochReport<T> report(on_epoch, optimizer, epochs_trained_);
        QueueReport<T> queue_report(signals);
        return run({&report, &queue_report});
      });
      return std::nullopt;
    }
    Interruption<T> interruption;
    EpochReport<T> report(on_epoch, optimizer, epochs_trained_);
    Checkpoint<T> writer(checkpoint, checkpoint_every);
    std::vector<Observer<T>*> observers{&interruption, &report, &writer};
    std::optional<FlowRecorder<T>> recorder;
    if (monitor) observers.insert(observers.begin(), &recorder.emplace(*monitor, *network_));
    History history;
    {
      const Exclusive exclusive(lock_);
      history = run(observers);
    }
    return as_dict(history);
  }

  /// Memory of a tape for that many rows.
  double tape_bytes(Index rows) const {
    const auto one = static_cast<double>(Tape<T>(*network_, 1).bytes());
    const auto two = static_cast<double>(Tape<T>(*network_, 2).bytes());
    return one + static_cast<double>(rows - 1) * (two - one);
  }

  py::dict gradient_flow() {
    GradientFlow flow;
    std::vector<ActivationHistogram> histograms;
    {
      const Exclusive exclusive(lock_);
      flow = chainrule::gradient_flow<T>(*network_, *tape_, {gradient_data(), parameter_count()});
      histograms = activation_histograms(*network_, *tape_);
    }
    return flow_dict(flow, histograms);
  }

  // Derivatives, on a tape of their own.

  py::array_t<T> jacobian(const py::object& X) {
    const InputsIn<T> in = inputs<T>(X, "X", network_->inputs(), taker);
    py::array_t<T> result({in.rows(), network_->outputs(), network_->inputs()});
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    chainrule::jacobian<T>(*network_, in.view(), scratch(in.rows()), to, check_signals);
    return result;
  }

  py::array_t<T> input_gradient(const py::object& X, std::optional<Index> output) {
    const InputsIn<T> in = inputs<T>(X, "X", network_->inputs(), taker);
    if (!output && network_->outputs() > 1)
      throw py::value_error("output is missing; this network has " + std::to_string(network_->outputs()) +
                            " outputs: name one, from 0, or take the jacobian");
    py::array_t<T> result({in.rows(), network_->inputs()});
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    chainrule::input_gradient<T>(*network_, in.view(), output.value_or(0), scratch(in.rows()), to, check_signals);
    return result;
  }

  py::array_t<T> jvp(const py::object& X, const py::object& V) {
    const InputsIn<T> in = inputs<T>(X, "X", network_->inputs(), taker);
    const MatrixIn<T> directions = matrix<T>(V, "V", network_->inputs(), taker);
    if (directions.rows != in.rows())
      throw py::value_error("V has " + std::to_string(directions.rows) + " rows; X has " + std::to_string(in.rows()));
    py::array_t<T> result({in.rows(), network_->outputs()});
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    chainrule::jvp<T>(*network_, in.view(), directions.view(), scratch(in.rows()), to, check_signals);
    return result;
  }

  py::array_t<T> per_sample_gradients(const py::object& X, const py::object& y) {
    const SamplesIn in = samples(X, y, py::none());
    py::array_t<T> result({in.X.rows(), parameter_count()});
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    chainrule::per_sample_gradients<T>(*network_, loss_, in.view(), scratch(in.X.rows()), to, check_signals);
    return result;
  }

  py::array_t<T> per_sample_gradient_norms(const py::object& X, const py::object& y) {
    const SamplesIn in = samples(X, y, py::none());
    py::array_t<T> result(in.X.rows());
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    chainrule::per_sample_gradient_norms<T>(*network_, loss_, in.view(), scratch(in.X.rows()), to, check_signals);
    return result;
  }

  py::array_t<T> hvp(const py::object& X, const py::object& y, const py::object& v, const py::object& sample_weight) {
    const SamplesIn in = samples(X, y, sample_weight);
    const MatrixIn<T> direction = vector<T>(v, "v", parameter_count());
    py::array_t<T> result(parameter_count());
    T* to = result.mutable_data();
    const Exclusive exclusive(lock_);
    Tape<T>& tape = scratch(in.X.rows());
    if (!directional_ || directional_->capacity() < tape.capacity())
      directional_ = std::make_unique<Tape<T>>(*network_, tape.capacity(), true);
    chainrule::hvp<T>(*network_, loss_, in.view(), {direction.data, parameter_count()}, tape, *directional_,
                      {to, parameter_count()}, check_signals);
    return result;
  }

  py::dict check_gradients(const py::object& X, const py::object& y, const py::object& sample_weight) const {
    const SamplesIn in = samples(X, y, sample_weight);
    GradientCheck check;
    {
      const py::gil_scoped_release release;
      check = chainrule::check_gradients<T>(*network_, loss_, in.view(), 1e-6, check_signals);
    }
    py::list parameters;
    for (const GradientCheck::Parameter& p : check.parameters) {
      py::dict row;
      row["name"] = p.name;
      row["relative_error"] = p.relative_error;
      parameters.append(row);
    }
    py::dict result;
    result["max_relative_error"] = check.max_relative_error;
    result["parameters"] = parameters;
    result["backprop_seconds"] = check.backprop_seconds;
    result["differences_seconds"] = check.differences_seconds;
    result["forward_passes"] = check.forward_passes;
    return result;
  }

 private:
  struct SamplesIn {
    InputsIn<T> X;
    TargetsIn<T> y;
    WeightsIn<T> weight;
    Samples<T> view() const { return {X.view(), y.view(), weight.data}; }
  };

  /// With `all` false they are a part of those that train.
  SamplesIn samples(const py::object& X, const py::object& y, const py::object& sample_weight, const char* X_name = "X",
                    const char* y_name = "y", const char* weight_name = "sample_weight", bool all = true) const {
    SamplesIn in;
    in.X = inputs<T>(X, X_name, network_->inputs(), taker);
    in.y = bindings::targets<T>(y, y_name, in.X.rows(), X_name, network_->outputs(), loss_);
    in.weight = bindings::weights<T>(sample_weight, weight_name, in.X.rows(), X_name, all);
    return in;
  }

  /// What the last forward and backward pass left is over with a fit, and with what its callbacks looked at.
  class Forget {
   public:
    explicit Forget(Model& model) : model_(model) { forget(); }
    ~Forget() { forget(); }
    Forget(const Forget&) = delete;

   private:
    void forget() { model_.ran_forward_ = model_.has_gradient_ = false; }
    Model& model_;
  };

  /// Takes model and optimizer back to where a fit was after so many epochs.
  void restore(const py::dict& from, AnyOptimizer& optimizer, Index epochs) {
    const auto parameters = from["parameters"].cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
    const auto epochs_trained = from["epochs_trained"].cast<Index>();
    const auto seed = from["seed"].cast<std::uint64_t>();
    const auto& restored = from["optimizer"].cast<const AnyOptimizer&>();
    if (parameters.size() != parameter_count() || epochs_trained < epochs)
      throw py::value_error("the progress is not one of this network");
    optimizer.require_idle("going on from a checkpoint");
    optimizer = restored;
    std::copy_n(parameters.data(), parameters.size(), network_->parameters().data());
    seed_ = seed;
    epochs_trained_ = epochs_trained;
  }

  /// Blocks of samples from a Python object with `rows` and `next()`, which gives (X, y, sample_weight) or None.
  class SourceIn : public Source<T> {
   public:
    SourceIn(const Model& model, const py::object& source) : model_(model), source_(source) {}
    ~SourceIn() override {
      const py::gil_scoped_acquire acquire;
      block_ = {};
    }
    Index rows() const override {
      const py::gil_scoped_acquire acquire;
      return source_.attr("rows").template cast<Index>();
    }
    const Samples<T>* next() override {
      const py::gil_scoped_acquire acquire;
      view_.reset();
      block_ = {};
      const py::object given = source_.attr("next")();
      if (given.is_none()) return nullptr;
      const auto parts = given.cast<py::tuple>();
      block_ = model_.samples(parts[0], parts[1], parts[2], "X", "y", "sample_weight", false);
      return &view_.emplace(block_.view());
    }

   private:
    const Model& model_;
    const py::object& source_;
    SamplesIn block_;
    std::optional<Samples<T>> view_;
  };

  /// A loss from the logits goes with the activation that turns them into its prediction, or with none.
  void check_output(const Activation& activation) const {
    const std::string given = name(activation), fitting = default_output(loss_);
    if (from_logits(loss_) && given != fitting && given != "identity")
      throw py::value_error("output_activation is '" + given + "'; loss '" + name(loss_) + "' goes with '" + fitting +
                            "', or with 'identity' for a network that gives logits");
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
  void grow_tape(Index rows, bool keep_pre_activations, bool keep_inputs) {
    if (!tape_ || !tape_->fits(rows, keep_inputs) || (keep_pre_activations && !tape_->keeps_pre_activations()))
      tape_ = std::make_shared<Tape<T>>(*network_, rows, keep_pre_activations, keep_inputs);
  }

  /// Makes the tape large enough, and ready for a batch with masks of its own.
  MaskDraw make_tape(Index rows, bool keep_pre_activations, bool keep_inputs) {
    grow_tape(rows, keep_pre_activations, keep_inputs);
    const MaskDraw draw{seed_, std::uint64_t{3} << 32, rows_drawn_};
    tape_->set_draw(draw);
    rows_drawn_ += rows;
    return draw;
  }

  /// A tape for calls that leave the last forward and backward pass as they are: of 16 MB or so at most.
  Tape<T>& scratch(Index rows) {
    constexpr Index most_numbers = (Index{16} << 20) / static_cast<Index>(sizeof(T)), fewest_rows = 256;
    const Index largest = std::max(fewest_rows, most_numbers / (3 * network_->widest() * network_->depth()));
    if (!scratch_ || !scratch_->fits(std::min(rows, largest)))
      scratch_ = std::make_unique<Tape<T>>(*network_, std::min(rows, largest));
    return *scratch_;
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
    for (Index l = first; l <= network_->depth(); ++l)
      views.append(matrix_view<T>((*tape.*of_layer)(l), keep_alive(tape, of_tape)));
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
  bool ran_forward_ = false;   // the tape holds a whole forward pass
  bool has_gradient_ = false;  // and its backward pass
  Lock lock_;
};

template <class T>
void register_model(py::module_& module, const char* name) {
  using M = Model<T>;
  py::class_<M, AnyModel>(module, name)
      .def(py::init<const std::vector<Index>&, const std::vector<Activation>&, Loss, const std::vector<Init>&,
                    std::uint64_t, std::vector<double>>(),
           py::arg("layer_sizes"), py::arg("activations"), py::arg("loss"), py::arg("inits"), py::arg("seed"),
           py::arg("dropout") = std::vector<double>())
      .def_property_readonly("seed", &M::seed)
      .def_property_readonly("n_parameters", &M::parameter_count)
      .def_property_readonly("layer_sizes", &M::layer_sizes)
      .def_property_readonly("activations", &M::activations)
      .def_property_readonly("dropout", &M::dropout)
      .def_property_readonly("loss", &M::loss)
      .def_property("epochs_trained", &M::epochs_trained, &M::set_epochs_trained)
      .def_property_readonly("parameters", &M::parameters)
      .def_property_readonly("gradient", &M::gradient)
      .def("weights", &M::weights)
      .def("biases", &M::biases)
      .def("weight_gradients", &M::weight_gradients)
      .def("bias_gradients", &M::bias_gradients)
      .def("tape_activations", &M::tape_activations)
      .def("tape_pre_activations", &M::tape_pre_activations)
      .def("tape_deltas", &M::tape_deltas)
      .def("forward", &M::forward, py::arg("X"))
      .def("backward", &M::backward, py::arg("y"), py::arg("sample_weight") = py::none(), py::arg("lr") = py::none())
      .def("pullback", &M::pullback, py::arg("grad_output"))
      .def("predict", &M::predict, py::arg("X"))
      .def("evaluate", &M::evaluate, py::arg("X"), py::arg("y"), py::arg("sample_weight") = py::none())
      .def("step", &M::step, py::arg("X"), py::arg("y"), py::arg("optimizer"), py::arg("sample_weight") = py::none())
      .def("loss_and_gradient", &M::loss_and_gradient, py::arg("X"), py::arg("y"),
           py::arg("sample_weight") = py::none())
      .def("apply", &M::apply, py::arg("optimizer"))
      .def("fit", &M::fit, py::arg("X"), py::arg("y"), py::kw_only(), py::arg("epochs"), py::arg("batch_size"),
           py::arg("optimizer"), py::arg("shuffle"), py::arg("sample_weight"), py::arg("validation"),
           py::arg("patience"), py::arg("schedule").none(true), py::arg("clip_norm"), py::arg("on_epoch"),
           py::arg("loss_weight") = 1.0, py::arg("l2") = 0.0, py::arg("rows") = py::none(),
           py::arg("validation_rows") = py::none(), py::arg("queue").none(true) = py::none(),
           py::arg("checkpoint") = py::none(), py::arg("checkpoint_every") = 1, py::arg("resume") = py::none(),
           py::arg("monitor").none(true) = py::none(), py::arg("on_nonfinite") = "raise",
           py::arg("micro_batch") = py::none(), py::arg("ranks") = py::none(), py::arg("source") = py::none())
      .def("tape_bytes", &M::tape_bytes, py::arg("rows"))
      .def("gradient_flow", &M::gradient_flow)
      .def("jacobian", &M::jacobian, py::arg("X"))
      .def("input_gradient", &M::input_gradient, py::arg("X"), py::arg("output") = py::none())
      .def("jvp", &M::jvp, py::arg("X"), py::arg("V"))
      .def("per_sample_gradients", &M::per_sample_gradients, py::arg("X"), py::arg("y"))
      .def("per_sample_gradient_norms", &M::per_sample_gradient_norms, py::arg("X"), py::arg("y"))
      .def("hvp", &M::hvp, py::arg("X"), py::arg("y"), py::arg("v"), py::arg("sample_weight") = py::none())
      .def("check_gradients", &M::check_gradients, py::arg("X"), py::arg("y"), py::arg("sample_weight") = py::none())
      .def("copy", [](const M& self) { return std::make_unique<M>(self); });
}

}  // namespace

void register_models(py::module_& module) {
  py::class_<AnyModel>(module, "Model");
  register_model<float>(module, "ModelFloat32");
  register_model<double>(module, "ModelFloat64");
}

}  // namespace chainrule::bindings
