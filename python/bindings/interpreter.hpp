#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace chainrule::bindings {

// While the interpreter is shut down, CPython up to 3.13 ends a thread that asks for it, by unwinding its stack, which
// no destructor may let through, nor any catch swallow. Here such a thread waits for the end of the process, as
// CPython's own do from 3.14 on.

[[noreturn]] inline void wait_for_the_end() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

template <class Take>
void take_interpreter(const Take& take) noexcept {
  if (!Py_IsInitialized() && !PyGILState_GetThisThreadState()) wait_for_the_end();  // it is gone already
  try {
    take();
  } catch (...) {
    wait_for_the_end();
  }
}

/// f(*arguments, **keywords) of a function that may take long, and so may be ended: what its caller holds then is not
/// let go of without the interpreter.
inline pybind11::object called(const pybind11::object& f, const pybind11::tuple& arguments,
                               const pybind11::dict& keywords = {}) {
  PyObject* result = nullptr;
  take_interpreter([&] { result = PyObject_Call(f.ptr(), arguments.ptr(), keywords.ptr()); });
  if (!result) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(result);
}

/// Lets other Python threads run.
class Released {
 public:
  Released() : state_(PyEval_SaveThread()) {}
  ~Released() {
    take_interpreter([this] { PyEval_RestoreThread(state_); });
  }
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;

 private:
  PyThreadState* state_;
};

/// Holds the interpreter, in any thread.
class Acquired {
 public:
  Acquired() {
    take_interpreter([this] { state_ = PyGILState_Ensure(); });
  }
  ~Acquired() {
    if (!PyGILState_Check())
      wait_for_the_end();  // what ran meanwhile was ended when it asked for the interpreter again
    PyGILState_Release(state_);
  }
  Acquired(const Acquired&) = delete;
  Acquired& operator=(const Acquired&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace chainrule::bindings
