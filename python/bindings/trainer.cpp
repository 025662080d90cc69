#include "trainer.hpp"

#include <algorithm>
#include <chrono>

#include "checkpoint.hpp"
#include "engine/thread_pool.hpp"
#include "fit_queue.hpp"
#include "interpreter.hpp"
#include "numpy_shuffles.hpp"
#include "schedules.hpp"
#include "selection.hpp"

namespace chainrule::bindings {

namespace {

/// Asks Python about Ctrl-C a few dozen times a second.
template <class T>
class Interruption : public Observer<T> {
 public:
  void step_done(FitState<T>&) override {
    if (++steps_ < steps_between_) return;
    const double passed = seconds_since_last();
    const double pace = passed > 0 ? pause / passed : 2;
    steps_between_ = std::max<Index>(1, static_cast<Index>(static_cast<double>(steps_between_) * std::min(2.0, pace)));
    ask();
  }
  void meanwhile() override {
    if (seconds_since_last() > pause) ask();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double pause = 0.02;

  double seconds_since_last() const { return std::chrono::duration<double>(Clock::now() - last_).count(); }
  void ask() {
    steps_ = 0;
    last_ = Clock::now();
    check_signals();
  }

  // To read the clock takes as long as a tenth of the smallest step.
  Index steps_ = 0, steps_between_ = 1;
  Clock::time_point last_ = Clock::now();
};

/// Counts the epochs of a model and tells Python of each.
template <class T>
class EpochReport : public Observer<T> {
 public:
  EpochReport(const py::object& on_epoch, const AnyOptimizer& optimizer, Model<T>& model)
      : on_epoch_(on_epoch), optimizer_(optimizer), model_(model) {}

  void epoch_done(FitState<T>& state) override {
    model_.set_epochs_trained(model_.epochs_trained() + 1);
    if (on_epoch_.is_none()) return;
    const Acquired interpreter;
    const engine::KeepSubnormals of_python;
    const py::object stop = called(on_epoch_, py::make_tuple(state.epoch, state.loss, state.validation_loss,
                                                             state.progress.history.lr.back(), state.penalty));
    if (py::bool_(stop)) state.stop = true;
    state.optimizer.set_rule(optimizer_.rule());  // which the callback may have changed
    state.optimizer.attach(state.network);
    state.lr = state.optimizer.lr();
  }

 private:
  const py::object& on_epoch_;
  const AnyOptimizer& optimizer_;
  Model<T>& model_;
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
    const Acquired interpreter;
    sum_(vector_view<T>(values, count, py::none()));
  }

  py::object sum_;
};

/// A model's tape for the time of a fit, whose callbacks get another. What the last forward and backward pass left is
/// over with it, and with what the callbacks looked at.
template <class T>
class TapeOfFit {
 public:
  explicit TapeOfFit(Model<T>& model) : model_(model) {}
  ~TapeOfFit() {
    if (begun_) model_.forget();
    if (tape_) model_.give_tape(std::move(tape_));
  }
  TapeOfFit(const TapeOfFit&) = delete;

  /// To be called when the first samples have been found good.
  void begin() {
    if (!begun_) model_.forget();
    begun_ = true;
  }
  const std::shared_ptr<Tape<T>>& take(Index rows, TapeContents contents) {
    begin();
    return tape_ = model_.take_tape(rows, contents);
  }

 private:
  Model<T>& model_;
  bool begun_ = false;
  std::shared_ptr<Tape<T>> tape_;
};

/// Blocks of samples from a Python object with `rows` and `next()`, which gives (X, y, sample_weight) or None.
template <class T>
class SourceIn : public Source<T> {
 public:
  SourceIn(const Model<T>& model, TapeOfFit<T>& tape, const py::object& source)
      : model_(model), tape_(tape), source_(source) {}
  ~SourceIn() override {
    const Acquired interpreter;
    block_ = {};
  }
  Index rows() const override {
    const Acquired interpreter;
    return source_.attr("rows").template cast<Index>();
  }
  const Samples<T>* next() override {
    const Acquired interpreter;
    view_.reset();
    block_ = {};
    const py::object given = called(source_.attr("next"), py::tuple());
    if (given.is_none()) return nullptr;
    const auto parts = given.cast<py::tuple>();
    block_ = model_.samples(parts[0], parts[1], parts[2], "X", "y", "sample_weight", false);
    tape_.begin();
    return &view_.emplace(block_.view());
  }

 private:
  const Model<T>& model_;
  TapeOfFit<T>& tape_;
  const py::object& source_;
  SamplesIn<T> block_;
  std::optional<Samples<T>> view_;
};

/// Takes model and optimizer back to where a fit was after so many epochs.
template <class T>
void restore(Model<T>& model, const py::dict& from, AnyOptimizer& optimizer, Index epochs) {
  const auto parameters = from["parameters"].cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
  const auto epochs_trained = from["epochs_trained"].cast<Index>();
  const auto seed = from["seed"].cast<std::uint64_t>();
  const auto& restored = from["optimizer"].cast<const AnyOptimizer&>();
  if (parameters.size() != model.parameter_count() || epochs_trained < epochs)
    throw py::value_error("the progress is not one of this network");
  optimizer.require_idle("going on from a checkpoint");
  optimizer = restored;
  std::copy_n(parameters.data(), parameters.size(), model.network().parameters().data());
  model.set_seed(seed);
  model.set_epochs_trained(epochs_trained);
  model.forget();
}

/// The keyword arguments of a call, each asked for once.
class Arguments {
 public:
  explicit Arguments(const py::kwargs& given) : given_(given) {}

  template <class Value>
  Value get(const char* name, Value otherwise = {}) {
    if (!given_.contains(name)) return otherwise;
    ++asked_for_;
    return given_[name].template cast<Value>();
  }
  py::object object(const char* name) { return get<py::object>(name, py::none()); }

  /// py::type_error if there are others.
  void done() const {
    if (asked_for_ < given_.size()) throw py::type_error("fit() got an unexpected keyword argument");
  }

 private:
  const py::kwargs& given_;
  std::size_t asked_for_ = 0;
};

FitOptions fit_options(Arguments& given) {
  FitOptions options;
  options.epochs = given.get<Index>("epochs");
  options.batch_size = given.get<Index>("batch_size");
  options.shuffle = given.get<bool>("shuffle");
  if (const auto shuffles = given.get<std::shared_ptr<NumpyShuffles>>("shuffles"))
    options.draw_order = [shuffles](std::vector<Index>& order) { shuffles->draw(order); };
  options.batches_count_by_rows = given.get("batches_count_by_rows", false);
  options.patience = given.get<std::optional<Index>>("patience");
  if (const auto* schedule = given.get<const AnySchedule*>("schedule")) options.schedule = schedule->schedule;
  options.clip_norm = given.get<std::optional<double>>("clip_norm");
  options.objective = {given.get("loss_weight", 1.0), given.get("l2", 0.0)};
  options.micro_batch = given.get<std::optional<Index>>("micro_batch");
  const auto on_nonfinite = given.get<std::string>("on_nonfinite", "raise");
  if (on_nonfinite != "raise") options.on_non_finite = on_nonfinite == "stop" ? OnNonFinite::stop : OnNonFinite::ignore;
  return options;
}

/// A fit whose arguments have been looked at. It keeps alive what it works with.
template <class T>
class FitOf {
 public:
  FitOf(Model<T>& model, const py::object& X, const py::object& y, Arguments& given)
      : model_(model),
        optimizer_object_(given.object("optimizer")),
        optimizer_(optimizer_object_.cast<AnyOptimizer&>()),
        on_epoch_(given.object("on_epoch")),
        source_(given.object("source")),
        rows_(given.get<Rows>("rows")),
        validation_rows_(given.get<Rows>("validation_rows")),
        options_(fit_options(given)) {
    const py::object ranks = given.object("ranks"), sample_weight = given.object("sample_weight");
    const bool alone = ranks.is_none();
    if (source_.is_none()) in_ = model.samples(X, y, sample_weight, "X", "y", "sample_weight", alone);
    if (const auto validation = given.get<std::optional<py::tuple>>("validation")) {
      const py::object weight = validation->size() == 3 ? py::object((*validation)[2]) : py::object(py::none());
      held_out_ = model.samples((*validation)[0], (*validation)[1], weight, "validation X", "validation y",
                                "validation sample_weight", alone);
    } else if (validation_rows_) {
      held_out_ = in_;
    }
    if (in_) Selection<T>::check(in_->view(), rows_);
    if (held_out_) Selection<T>::check(held_out_->view(), validation_rows_);
    options_.seed = model.seed();
    if (!alone) {
      options_.ranks = &ranks_.emplace(ranks);
      options_.seed = ranks.attr("seed").cast<std::uint64_t>();
    }
    const auto resume = given.get<std::optional<py::dict>>("resume");
    given.done();
    if (resume) go_on(*resume);
    mine_.emplace(optimizer_, model.network(), optimizer_object_);
  }
  FitOf(const FitOf&) = delete;  // the options point to the ranks

  EpochReport<T> report() const { return {on_epoch_, optimizer_, model_}; }

  /// Under the model's lock, without the interpreter's.
  History run(const std::vector<Observer<T>*>& observers) {
    options_.epochs_before = model_.epochs_trained() - progress_.history.epochs;  // of now: another thread may have fit
    TapeOfFit<T> tape(model_);
    std::optional<Selection<T>> held_out;
    if (held_out_) held_out.emplace(held_out_->view(), validation_rows_);
    const Samples<T>* const validation = held_out ? &held_out->samples() : nullptr;
    if (!in_) {
      SourceIn<T> blocks(model_, tape, source_);
      return chainrule::fit<T>(model_.network(), model_.loss(), blocks, validation, **mine_, options_, observers,
                               progress_);
    }
    const Selection<T> chosen(in_->view(), rows_);
    const Inputs<T>& X = chosen.samples().X;
    const TapeContents contents{.inputs = !X.mostly_zeros()};
    const Index most_rows = options_.micro_batch.value_or(options_.batch_size);
    const Index tape_rows =
        rows_at_a_time(model_.network(), std::min({options_.batch_size, most_rows, X.rows()}), contents);
    return chainrule::fit<T>(model_.network(), model_.loss(), chosen.samples(), validation, **mine_, options_,
                             observers, progress_, tape.take(tape_rows, contents));
  }

 private:
  using Rows = std::optional<std::vector<Index>>;  // which of the samples take part; by default all

  /// From such progress, with model and optimizer as of then.
  void go_on(const py::dict& from) {
    progress_ = fit_progress<T>(from);
    {
      const AtWork<T> not_of_another(optimizer_, model_.network());
    }
    const Exclusive exclusive(model_.lock());  // of a fit in another thread
    const Acquired interpreter;
    restore(model_, from, optimizer_, progress_.history.epochs);
    options_.seed = model_.seed();
  }

  Model<T>& model_;
  py::object optimizer_object_;
  AnyOptimizer& optimizer_;
  py::object on_epoch_, source_;
  Rows rows_, validation_rows_;
  FitOptions options_;
  std::optional<SamplesIn<T>> in_, held_out_;
  std::optional<RanksIn> ranks_;
  FitProgress<T> progress_;
  std::optional<AtWork<T>> mine_;
};

/// Trains, or leaves that to a `queue`. `checkpoint` is called with the progress after each `checkpoint_every` epochs.
template <class T>
std::optional<py::dict> fit(Model<T>& model, const py::object& X, const py::object& y, const py::kwargs& kwargs) {
  Arguments given(kwargs);
  auto* const queue = given.get<FitQueue*>("queue");
  auto* const monitor = given.get<FlowRecord*>("monitor");
  const py::object checkpoint = given.object("checkpoint");
  const Index checkpoint_every = given.get<Index>("checkpoint_every", 1);
  const auto fit = std::make_shared<FitOf<T>>(model, X, y, given);
  EpochReport<T> report = fit->report();
  if (queue) {
    if (model.lock().is_held_here()) throw std::runtime_error("this network is in the midst of a fit");
    model.lock().check_not_refused();
    const py::object alive = py::cast(&model, py::return_value_policy::reference);
    queue->add([fit, report, alive, &model](FitSignals& signals) mutable {
      const Held held(model.lock(), [&] {
        if (signals.stop) throw std::runtime_error("the fits were ended");
      });
      QueueReport<T> queue_report(signals);
      return fit->run({&report, &queue_report});
    });
    return std::nullopt;
  }
  Interruption<T> interruption;
  Checkpoint<T> writer(checkpoint, checkpoint_every);
  std::vector<Observer<T>*> observers{&interruption, &report, &writer};
  std::optional<FlowRecorder<T>> recorder;
  if (monitor) observers.insert(observers.begin(), &recorder.emplace(*monitor, model.network()));
  History history;
  {
    const Exclusive exclusive(model.lock());
    history = fit->run(observers);
  }
  return as_dict(history);
}

/// Memory of a tape for that many rows.
template <class T>
double tape_bytes(const Model<T>& model, Index rows) {
  const auto one = static_cast<double>(Tape<T>(model.network(), 1).bytes());
  const auto two = static_cast<double>(Tape<T>(model.network(), 2).bytes());
  return one + static_cast<double>(rows - 1) * (two - one);
}

}  // namespace

template <class T>
void def_trainer(ModelClass<T>& model) {
  model.def("fit", &fit<T>, py::arg("X"), py::arg("y"))
      .def("tape_bytes", &tape_bytes<T>, py::arg("rows"))
      .def(
          "rows_at_a_time",
          [](const Model<T>& self, Index rows, bool sparse) {
            return rows_at_a_time(self.network(), rows, {.inputs = !sparse});
          },
          py::arg("rows"), py::arg("sparse"))
      .def(
          "predict_bytes",
          [](const Model<T>& self, Index rows, bool sparse) { return predict_bytes(self.network(), rows, sparse); },
          py::arg("rows"), py::arg("sparse"))
      .def(
          "uses_in_place", [](const Model<T>&, const py::array& array) { return used_in_place<T>(array); },
          py::arg("array"));
}

template void def_trainer(ModelClass<float>&);
template void def_trainer(ModelClass<double>&);

}  // namespace chainrule::bindings
