#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "interpreter.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

/// Asks Python about Ctrl-C.
inline void check_signals() {
  const Acquired interpreter;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

/// Held by one thread at a time, which may take it again. Unlike std::recursive_mutex it can be waited for with an eye
/// on Ctrl-C, and a process that is forked while it is held can take it: a thread that holds it keeps it there, and
/// one that is not there any more has left it.
class Lock {
 public:
  /// Asks `go_on` now and then whether to wait any longer, which throws if not.
  template <class GoOn>
  void acquire(const GoOn& go_on) {
    check_not_refused();
    const std::uint64_t me = this_thread();
    for (int tries = 0;; ++tries) {
      std::uint64_t holder = 0;
      if (holder_.compare_exchange_strong(holder, me)) {
        depth_ = 1;
        return;
      }
      const bool mine = thread_of(holder) == thread_of(me);
      if (mine || process_of(holder) != process_of(me)) {
        if (!holder_.compare_exchange_strong(holder, me)) continue;
        depth_ = mine ? depth_ + 1 : 1;
        return;
      }
      if (tries < 100) {
        std::this_thread::yield();
        continue;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      if (tries % 100 == 0) go_on();
    }
  }
  void release() {
    if (--depth_ == 0) holder_.store(0);
  }
  bool is_held_here() const { return holder_.load() == this_thread(); }
  /// From now on refuses this thread, for which the holder waits.
  void refuse_here() { refused_here() = this; }
  void check_not_refused() const {
    if (refused_here() == this)
      throw std::runtime_error(
          "this network is in training, and its samples are read ahead meanwhile; they may come from its `predict`, or "
          "from a copy of it, but from nothing else of it");
  }

 private:
  static const Lock*& refused_here() {
    thread_local const Lock* lock = nullptr;
    return lock;
  }

  // A number for each thread, and one for each process that a fork has made since the first; a forked thread keeps its
  // own.
  static std::uint64_t this_thread() {
    static std::atomic<std::uint32_t> threads{0};
    static std::atomic<std::uint32_t> processes{0};
#if defined(__unix__) || defined(__APPLE__)
    [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] { ++processes; });
#endif
    thread_local const std::uint32_t number = ++threads;
    return std::uint64_t{processes.load(std::memory_order_relaxed)} << 32 | number;
  }
  static std::uint64_t thread_of(std::uint64_t holder) { return holder & 0xffffffff; }
  static std::uint64_t process_of(std::uint64_t holder) { return holder >> 32; }

  std::atomic<std::uint64_t> holder_{0};
  int depth_ = 0;  // of the holder
};

/// Holds a lock without a look at the interpreter.
class Held {
 public:
  template <class GoOn>
  Held(Lock& lock, const GoOn& go_on) : lock_(lock) {
    lock_.acquire(go_on);
  }
  ~Held() { lock_.release(); }
  Held(const Held&) = delete;

 private:
  Lock& lock_;
};

/// Lets other Python threads run, and keeps those that would change the same model waiting. In this order: a thread
/// that waits for the model must not hold the interpreter, which the one at work may need for a callback.
class Exclusive {
 public:
  explicit Exclusive(Lock& lock) : held_(lock, check_signals) {}

 private:
  Released released_;
  Held held_;
};

}  // namespace chainrule::bindings
