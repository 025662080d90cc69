#include "fit_queue.hpp"

#include <chainrule/threads.hpp>
#include <chrono>
#include <future>

#include "checkpoint.hpp"
#include "engine/thread_pool.hpp"
#include "interpreter.hpp"
#include "register.hpp"

namespace chainrule::bindings {

void FitQueue::run(const py::object& on_progress) {
  FitSignals signals;
  const Released released;
  auto work = std::async(std::launch::async, [&] {
    engine::parallel(static_cast<std::ptrdiff_t>(fits_.size()), num_threads(), [&](std::ptrdiff_t i) {
      if (signals.stop) return;
      Entry& entry = fits_[static_cast<std::size_t>(i)];
      try {
        entry.history = entry.fit(signals);
      } catch (...) {
        entry.error = std::current_exception();
      }
    });
  });
  while (work.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
    const Acquired interpreter;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!on_progress.is_none()) on_progress(signals.epochs.load());
    } catch (...) {
      signals.stop = true;
      throw;
    }
  }
  work.get();
  if (on_progress.is_none()) return;
  const Acquired interpreter;
  on_progress(signals.epochs.load());
}

py::dict FitQueue::record(std::size_t i) const {
  const Entry& entry = fits_.at(i);
  if (entry.error) std::rethrow_exception(entry.error);
  return as_dict(entry.history);
}

void register_fit_queue(py::module_& module) {
  py::class_<FitQueue>(module, "FitQueue")
      .def(py::init<>())
      .def("run", &FitQueue::run, py::arg("on_progress") = py::none())
      .def("__len__", &FitQueue::size)
      .def("record", &FitQueue::record, py::arg("i"))
      .def("close", &FitQueue::close);
}

}  // namespace chainrule::bindings
