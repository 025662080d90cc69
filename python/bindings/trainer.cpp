#include "trainer.hpp"

#include <algorithm>
#include <chrono>

#include "checkpoint.hpp"
#include "engine/thread_pool.hpp"
#include "fit_queue.hpp"
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
    const py::gil_scoped_acquire acquire;
    const engine::KeepSubnormals of_python;
    const py::object stop =
        on_epoch_(state.epoch, state.loss, state.validation_loss, state.progress.history.lr.back(), state.penalty);
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
    const py::gil_scoped_acquire acquire;
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

/// Trains, or leaves that to a queue. `rows` and `validation_rows` say which of the samples take part; by default
/// all. `checkpoint` is called with a fit's progress; `resume` is such progress, with model and optimizer as of then.
template <class T>
std::optional<py::dict> fit(Model<T>& model, const py::object& X, const py::object& y, Index epochs, Index batch_size,
                            const py::object& optimizer_object, bool shuffle, const py::object& sample_weight,
                            const std::optional<py::tuple>& validation, std::optional<Index> patience,
                            const AnySchedule* schedule, std::optional<double> clip_norm, const py::object& on_epoch,
                            double loss_weight, double l2, const std::optional<std::vector<Index>>& rows,
                            const std::optional<std::vector<Index>>& validation_rows, FitQueue* queue,
                            const py::object& checkpoint, Index checkpoint_every, const std::optional<py::dict>& resume,
                            FlowRecord* monitor, const std::string& on_nonfinite, std::optional<Index> micro_batch,
                            const py::object& ranks, const py::object& source,
                            const std::shared_ptr<NumpyShuffles>& shuffles, bool batches_count_by_rows) {
  auto& optimizer = optimizer_object.cast<AnyOptimizer&>();
  std::optional<SamplesIn<T>> in;
  if (source.is_none()) in = model.samples(X, y, sample_weight, "X", "y", "sample_weight", ranks.is_none());
  std::optional<SamplesIn<T>> held_out;
  if (validation) {
    const py::tuple& v = *validation;
    held_out = model.samples(v[0], v[1], v.size() == 3 ? py::object(v[2]) : py::object(py::none()), "validation X",
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
      const AtWork<T> not_of_another(optimizer, model.network());
    }
    const Exclusive exclusive(model.lock());  // of a fit in another thread
    const py::gil_scoped_acquire acquire;
    restore(model, *resume, optimizer, progress.history.epochs);
  }
  const auto mine = std::make_shared<AtWork<T>>(optimizer, model.network(), optimizer_object);
  FitOptions options;
  options.epochs = epochs;
  options.batch_size = batch_size;
  options.shuffle = shuffle;
  options.seed = model.seed();
  if (shuffles) options.draw_order = [shuffles](std::vector<Index>& order) { shuffles->draw(order); };
  options.batches_count_by_rows = batches_count_by_rows;
  options.patience = patience;
  if (schedule) options.schedule = schedule->schedule;
  options.clip_norm = clip_norm;
  options.objective = {loss_weight, l2};
  if (on_nonfinite != "raise") options.on_non_finite = on_nonfinite == "stop" ? OnNonFinite::stop : OnNonFinite::ignore;
  options.micro_batch = micro_batch;
  std::optional<RanksIn> together;
  if (!ranks.is_none()) {
    options.ranks = &together.emplace(ranks);
    if (!resume) options.seed = ranks.attr("seed").cast<std::uint64_t>();
  }
  const auto run = [=, &model](const std::vector<Observer<T>*>& observers) {
    FitOptions of_now = options;  // until now another thread may have trained the network
    of_now.epochs_before = model.epochs_trained() - progress.history.epochs;
    TapeOfFit<T> tape(model);
    std::optional<Selection<T>> chosen_held_out;
    if (held_out) chosen_held_out.emplace(held_out->view(), validation_rows);
    const Samples<T>* const validation_samples = chosen_held_out ? &chosen_held_out->samples() : nullptr;
    if (!in) {
      SourceIn<T> blocks(model, tape, source);
      return chainrule::fit<T>(model.network(), model.loss(), blocks, validation_samples, **mine, of_now, observers,
                               progress);
    }
    const Selection<T> chosen(in->view(), rows);
    const Inputs<T>& chosen_X = chosen.samples().X;
    const TapeContents contents{.inputs = !chosen_X.mostly_zeros()};
    const Index tape_rows = rows_at_a_time(
        model.network(), std::min({batch_size, micro_batch.value_or(batch_size), chosen_X.rows()}), contents);
    return chainrule::fit<T>(model.network(), model.loss(), chosen.samples(), validation_samples, **mine, of_now,
                             observers, progress, tape.take(tape_rows, contents));
  };
  if (queue) {
    if (model.lock().is_held_here()) throw std::runtime_error("this network is in the midst of a fit");
    const py::tuple alive = py::make_tuple(py::cast(&model, py::return_value_policy::reference), optimizer_object);
    queue->add([run, alive, &model, on_epoch, &optimizer](FitSignals& signals) {
      const Held held(model.lock(), [&] {
        if (signals.stop) throw std::runtime_error("the fits were ended");
      });
      EpochReport<T> report(on_epoch, optimizer, model);
      QueueReport<T> queue_report(signals);
      return run({&report, &queue_report});
    });
    return std::nullopt;
  }
  Interruption<T> interruption;
  EpochReport<T> report(on_epoch, optimizer, model);
  Checkpoint<T> writer(checkpoint, checkpoint_every);
  std::vector<Observer<T>*> observers{&interruption, &report, &writer};
  std::optional<FlowRecorder<T>> recorder;
  if (monitor) observers.insert(observers.begin(), &recorder.emplace(*monitor, model.network()));
  History history;
  {
    const Exclusive exclusive(model.lock());
    history = run(observers);
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
  model
      .def("fit", &fit<T>, py::arg("X"), py::arg("y"), py::kw_only(), py::arg("epochs"), py::arg("batch_size"),
           py::arg("optimizer"), py::arg("shuffle"), py::arg("sample_weight"), py::arg("validation"),
           py::arg("patience"), py::arg("schedule").none(true), py::arg("clip_norm"), py::arg("on_epoch"),
           py::arg("loss_weight") = 1.0, py::arg("l2") = 0.0, py::arg("rows") = py::none(),
           py::arg("validation_rows") = py::none(), py::arg("queue").none(true) = py::none(),
           py::arg("checkpoint") = py::none(), py::arg("checkpoint_every") = 1, py::arg("resume") = py::none(),
           py::arg("monitor").none(true) = py::none(), py::arg("on_nonfinite") = "raise",
           py::arg("micro_batch") = py::none(), py::arg("ranks") = py::none(), py::arg("source") = py::none(),
           py::arg("shuffles").none(true) = py::none(), py::arg("batches_count_by_rows") = false)
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
