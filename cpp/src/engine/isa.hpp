#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels.hpp"

namespace chainrule::engine {

/// An instruction set that kernels were compiled for.
struct InstructionSet {
  const char* name;  // "x86-64-v4", …
  bool (*supported)();
  const Kernels<float>* (*float_kernels)();
  const Kernels<double>* (*double_kernels)();
};

/// Those that this processor runs, best first.
std::vector<InstructionSet> instruction_sets();

/// The one in use: the best, or the one that the environment variable CHAINRULE_ISA names. std::runtime_error where
/// that is unknown or the processor lacks it.
const InstructionSet& instruction_set();

}  // namespace chainrule::engine
