#include "isa.hpp"

#include <cstdlib>
#include <stdexcept>

#include "chainrule/threads.hpp"
#include "math_table.hpp"

namespace chainrule::engine {

#define CHAINRULE_DECLARE_KERNELS(isa)     \
  namespace isa {                          \
  const Kernels<float>* float_kernels();   \
  const Kernels<double>* double_kernels(); \
  }

#if defined(__x86_64__)
CHAINRULE_DECLARE_KERNELS(x86_64_v2)
CHAINRULE_DECLARE_KERNELS(x86_64_v3)
CHAINRULE_DECLARE_KERNELS(x86_64_v4)

static bool has_v2() { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }
static bool has_v3() {
  return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
static bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static const InstructionSet compiled[] = {
    {"x86-64-v4", has_v4, x86_64_v4::float_kernels, x86_64_v4::double_kernels},
    {"x86-64-v3", has_v3, x86_64_v3::float_kernels, x86_64_v3::double_kernels},
    {"x86-64-v2", has_v2, x86_64_v2::float_kernels, x86_64_v2::double_kernels},
};
#else
CHAINRULE_DECLARE_KERNELS(native)
static const InstructionSet compiled[] = {
    {"baseline", [] { return true; }, native::float_kernels, native::double_kernels},
};
#endif

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> result;
  for (const InstructionSet& set : compiled)
    if (set.supported()) result.push_back(set);
  return result;
}

static InstructionSet choose() {
  const std::vector<InstructionSet> usable = instruction_sets();
  std::string names;
  for (const InstructionSet& set : usable) names += (names.empty() ? "" : ", ") + std::string(set.name);
  if (usable.empty()) throw std::runtime_error("this processor runs none of the instruction sets of this build");
  const char* wanted = std::getenv("CHAINRULE_ISA");
  if (!wanted || !*wanted) return usable.front();
  for (const InstructionSet& set : usable)
    if (std::string(wanted) == set.name) return set;
  throw std::runtime_error("CHAINRULE_ISA is '" + std::string(wanted) + "'; this machine runs: " + names);
}

const InstructionSet& instruction_set() {
  static const InstructionSet set = choose();
  return set;
}

namespace {

template <class T>
const Kernels<T>* kernels_of(const InstructionSet& set) {
  if constexpr (sizeof(T) == 4)
    return set.float_kernels();
  else
    return set.double_kernels();
}

}  // namespace

template <class T>
const Kernels<T>& choose_kernels() {
  chosen_kernels<T>.store(kernels_of<T>(instruction_set()));
  return *chosen_kernels<T>;
}

template <class T>
std::vector<std::pair<std::string, const MathTable<T>*>> math_tables() {
  std::vector<std::pair<std::string, const MathTable<T>*>> tables;
  for (const InstructionSet& set : instruction_sets()) tables.emplace_back(set.name, kernels_of<T>(set)->math);
  return tables;
}

template const Kernels<float>& choose_kernels();
template const Kernels<double>& choose_kernels();
template std::vector<std::pair<std::string, const MathTable<float>*>> math_tables();
template std::vector<std::pair<std::string, const MathTable<double>*>> math_tables();

}  // namespace chainrule::engine

namespace chainrule {

const char* instruction_set() { return engine::instruction_set().name; }

}  // namespace chainrule
