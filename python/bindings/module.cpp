#include <pybind11/eval.h>
#include <pybind11/stl.h>

#include <chainrule/threads.hpp>
#include <string>

#include "engine/isa.hpp"
#include "register.hpp"

namespace py = pybind11;

namespace {

/// pprint, by which scikit-learn shows parameters, looks a type's __repr__ up in a dict; pybind11's methods have no
/// hash.
void make_reprs_hashable(const py::module_& module) {
  const py::object as_function = py::eval("lambda method: lambda self: method(self)");
  for (const auto& [name, member] : module.attr("__dict__").cast<py::dict>())
    if (py::isinstance<py::type>(member) && member.attr("__dict__").contains("__repr__"))
      member.attr("__repr__") = as_function(member.attr("__repr__"));
}

/// What `object` does for pickle's first protocols aborts where no base class is Python's.
void make_reducible(const py::module_& module) {
  for (const auto& [name, member] : module.attr("__dict__").cast<py::dict>()) {
    if (!py::isinstance<py::type>(member) || member.attr("__dict__").contains("__reduce__")) continue;
    if (member.attr("__base__").attr("__name__").cast<std::string>() != "pybind11_object") continue;
    member.attr("__reduce__") = py::cpp_function(
        [](const py::object& self) {
          const py::object type = py::type::of(self);
          if (!py::hasattr(self, "__setstate__"))
            throw py::type_error(py::str("cannot pickle {!r} object").format(type.attr("__name__")));
          const py::object make = py::module_::import("copyreg").attr("__newobj__");
          return py::make_tuple(make, py::make_tuple(type), self.attr("__getstate__")());
        },
        py::is_method(member));
  }
}

}  // namespace

/// The symbol by which threadpoolctl knows this library from others of the same file name.
extern "C" PYBIND11_EXPORT int chainrule_num_threads() { return chainrule::num_threads(); }

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of chainrule. Private: use the classes and functions of the package.";
  // Chosen here, so that an instruction set that the processor lacks is an error of the import.
  const std::string instruction_set = chainrule::instruction_set();
  chainrule::bindings::register_values(module);
  chainrule::bindings::register_optimizers(module);
  chainrule::bindings::register_schedules(module);
  chainrule::bindings::register_numpy_shuffles(module);
  chainrule::bindings::register_fit_queue(module);
  chainrule::bindings::register_gradient_flow(module);
  chainrule::bindings::register_non_finite();
  chainrule::bindings::register_models(module);
  make_reprs_hashable(module);
  make_reducible(module);
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
