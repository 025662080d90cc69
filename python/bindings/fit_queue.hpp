#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chainrule/trainer.hpp>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <vector>

#include "constructed.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

/// Between the thread that waits for fits and those that run them.
struct FitSignals {
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> epochs{0};  // done by all fits together
};

/// Fits that are run side by side: each on one thread, as many at once as there are threads. They need Python for their
/// callbacks alone.
class FitQueue {
 public:
  using Fit = std::function<History(FitSignals&)>;

  void add(Fit fit) { fits_.push_back({std::move(fit), {}, nullptr}); }
  std::size_t size() const { return fits_.size(); }
  /// Runs all to their ends; the calling thread waits for Ctrl-C and tells `on_progress` the epochs done.
  void run(const py::object& on_progress);
  /// What fit i came to, or its exception.
  py::dict record(std::size_t i) const;
  /// Lets go of all fits, with their samples and optimizers: whoever keeps an exception keeps the queue.
  void close() { fits_.clear(); }

 private:
  struct Entry {
    Fit fit;
    History history;
    std::exception_ptr error;
  };
  std::vector<Entry> fits_;
};

/// Counts the epochs of a fit in a queue, and ends it when all are to stop.
template <class T>
class QueueReport : public Observer<T> {
 public:
  explicit QueueReport(FitSignals& signals) : signals_(signals) {}

  void step_done(FitState<T>& state) override {
    if (signals_.stop.load(std::memory_order_relaxed)) state.stop = true;
  }
  void meanwhile() override {
    if (signals_.stop.load(std::memory_order_relaxed)) throw std::runtime_error("the fits were ended");
  }
  void epoch_done(FitState<T>&) override { signals_.epochs.fetch_add(1, std::memory_order_relaxed); }

 private:
  FitSignals& signals_;
};

}  // namespace chainrule::bindings

template <>
struct pybind11::detail::type_caster<chainrule::bindings::FitQueue>
    : chainrule::bindings::ConstructedCaster<chainrule::bindings::FitQueue> {};
