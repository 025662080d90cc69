#include <pybind11/stl.h>

#include <chainrule/threads.hpp>
#include <string>

#include "engine/isa.hpp"
#include "register.hpp"

namespace py = pybind11;

/// The symbol by which threadpoolctl knows this library from others of the same file name.
extern "C" PYBIND11_EXPORT int chainrule_num_threads() { return chainrule::num_threads(); }

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of chainrule. Private: use the classes and functions of the package.";
  // Chosen here, so that an instruction set that the processor lacks is an error of the import.
  const std::string instruction_set = chainrule::instruction_set();
  chainrule::bindings::register_values(module);
  chainrule::bindings::register_optimizers(module);
  chainrule::bindings::register_schedules(module);
  chainrule::bindings::register_fit_queue(module);
  chainrule::bindings::register_flow(module);
  chainrule::bindings::register_models(module);
  module.def("set_num_threads", &chainrule::set_num_threads, py::arg("n"));
  module.def("get_num_threads", &chainrule::num_threads);
  module.def("config", [instruction_set] {
    py::list available;
    for (const auto& set : chainrule::engine::instruction_sets()) available.append(set.name);
    py::dict config;
    config["version"] = CHAINRULE_VERSION;
#if defined(__clang__)
    config["compiler"] = "Clang " __clang_version__;
#else
    config["compiler"] = "GCC " __VERSION__;
#endif
    config["instruction_set"] = instruction_set;
    config["instruction_sets"] = available;
    config["threads"] = chainrule::num_threads();
    return config;
  });
}
