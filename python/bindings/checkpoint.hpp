#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <chainrule/trainer.hpp>

#include "interpreter.hpp"
#include "non_finite.hpp"

// What a fit came to, and a fit between two epochs, which Python writes to a file and reads back.

namespace chainrule::bindings {

namespace py = pybind11;

inline py::dict as_dict(const History& history) {
  py::dict result;
  result["loss"] = history.loss;
  result["validation_loss"] = history.validation_loss;
  result["lr"] = history.lr;
  result["epochs"] = history.epochs;
  result["best_epoch"] = history.best_epoch;
  result["stopped_early"] = history.stopped_early;
  result["non_finite"] = history.non_finite ? py::object(as_dict(*history.non_finite)) : py::none();
  result["steps_left_out"] = history.steps_left_out;
  return result;
}

template <class T>
py::dict as_dict(const FitProgress<T>& progress) {
  const auto& [start, lr, best, bad_epochs] = progress.rate;
  py::dict result = as_dict(progress.history);
  result["step"] = progress.step;
  result["stopped"] = progress.stopped;
  result["penalty"] = progress.history.penalty;
  result["rate"] = py::make_tuple(start, lr, best);
  result["bad_epochs"] = bad_epochs;
  result["best_epoch"] = progress.best.epoch;
  result["best_loss"] = progress.best.loss;
  result["best_parameters"] = py::array_t<T>(progress.best.parameters.size(), progress.best.parameters.data());
  return result;
}

template <class T>
FitProgress<T> fit_progress(const py::dict& from) {
  FitProgress<T> progress;
  progress.history.loss = from["loss"].cast<std::vector<double>>();
  progress.history.penalty = from["penalty"].cast<std::vector<double>>();
  progress.history.validation_loss = from["validation_loss"].cast<std::vector<double>>();
  progress.history.lr = from["lr"].cast<std::vector<double>>();
  if (const py::object where = from["non_finite"]; !where.is_none())
    progress.history.non_finite = non_finite(where.cast<py::dict>());
  progress.history.steps_left_out = from["steps_left_out"].cast<Index>();
  progress.history.epochs = static_cast<Index>(progress.history.loss.size());
  progress.step = from["step"].cast<Index>();
  progress.stopped = from["stopped"].cast<bool>();
  const auto [start, lr, best] = from["rate"].cast<std::tuple<double, double, double>>();
  progress.rate = {start, lr, best, from["bad_epochs"].cast<Index>()};
  progress.best.epoch = from["best_epoch"].cast<Index>();
  progress.best.loss = from["best_loss"].cast<double>();
  const auto parameters = from["best_parameters"].cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
  progress.best.parameters = ConstVectorView<T>(parameters.data(), parameters.size());
  return progress;
}

/// Lets Python write a checkpoint after every `every` epochs, and at the end.
template <class T>
class Checkpoint : public Observer<T> {
 public:
  Checkpoint(const py::object& write, Index every) : write_(write), every_(every) {}

  void epoch_done(FitState<T>& state) override {
    if (write_.is_none() || (state.epoch % every_ != 0 && state.epoch != state.options.epochs && !state.stop)) return;
    const Acquired interpreter;
    write_(as_dict(state.progress));
  }

 private:
  const py::object& write_;
  Index every_;
};

}  // namespace chainrule::bindings
