#pragma once

// The elementary functions of one instruction set, as plain function pointers: how code that is not compiled for that
// set (the tests) calls them.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace chainrule::engine {

/// Each entry writes f(x[i]) to y[i] for i in [0, n); y may be x.
template <class T>
struct MathTable {
  using Function = void (*)(const T* x, T* y, std::ptrdiff_t n);

  Function exp;
  Function expm1;
  Function log;
  Function tanh;
  Function sigmoid;
  Function softplus;
  Function normal_cdf;
  Function normal_density;
};

/// Name ("x86-64-v3", …) and table of every instruction set that this machine can run.
template <class T>
std::vector<std::pair<std::string, const MathTable<T>*>> math_tables();

}  // namespace chainrule::engine
