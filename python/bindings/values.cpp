#include "values.hpp"

#include <pybind11/stl.h>

#include <optional>

#include "register.hpp"
#include "settings.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

void register_values(py::module_& module) {
  py::class_<Activation> activation(module, "Activation", "An activation: its name and, if it has one, its parameter.");
  const auto parameter_of = [](const Activation& self) -> std::optional<double> {
    if (!parameter_name(self)) return {};
    return parameter(self);
  };
  activation
      .def(py::init([](const std::string& name, std::optional<double> parameter) {
             return parameter ? activation_named(name, *parameter) : activation_named(name);
           }),
           py::arg("name"), py::arg("parameter") = py::none())
      .def_property_readonly("name", [](const Activation& self) { return name(self); })
      .def_property_readonly("parameter", parameter_of)
      .def_property_readonly("output_only", &output_only)
      .def_property_readonly("rectifier", &rectifier)
      .def("__repr__", [](const Activation& self) {
        std::string text = "Activation('" + std::string(name(self)) + "'";
        if (parameter_name(self)) text += ", " + std::string(py::str(py::float_(parameter(self))));
        return text + ")";
      });
  def_value(activation,
            [parameter_of](const Activation& self) { return py::make_tuple(name(self), parameter_of(self)); });

  py::class_<Loss> loss(module, "Loss", "A loss: its name and parameters.");
  loss.def(py::init([](const std::string& name, const std::vector<double>& parameters) {
             return loss_named(name, parameters);
           }),
           py::arg("name"), py::arg("parameters") = py::tuple())
      .def_property_readonly("name", [](const Loss& self) { return name(self); })
      .def_property_readonly("parameters", [](const Loss& self) { return parameters(self); })
      .def_property_readonly("default_output", [](const Loss& self) { return default_output(self); })
      .def("__repr__", [](const Loss& self) {
        std::string text = "Loss('" + std::string(name(self)) + "'";
        if (!parameters(self).empty()) text += ", " + std::string(py::str(py::cast(parameters(self))));
        return text + ")";
      });
  def_value(loss, [](const Loss& self) { return py::make_tuple(name(self), py::tuple(py::cast(parameters(self)))); });

  py::class_<Init> init(module, "Init", "How weights are drawn: a name and, if it has one, its parameter.");
  init.def(py::init([](const std::string& name, std::optional<double> parameter) {
             return parameter ? init_named(name, *parameter) : init_named(name);
           }),
           py::arg("name"), py::arg("parameter") = py::none())
      .def_property_readonly("name", [](const Init& self) { return name(self); })
      .def_property_readonly("parameter", [](const Init& self) { return parameter(self); })
      .def("__repr__", [](const Init& self) {
        std::string text = "Init('" + std::string(name(self)) + "'";
        if (const std::optional<double> own = parameter(self)) text += ", " + std::string(py::str(py::float_(*own)));
        return text + ")";
      });
  def_value(init, [](const Init& self) { return py::make_tuple(name(self), parameter(self)); });

  module.attr("activation_names") = py::tuple(py::cast(activation_names()));
  module.attr("loss_names") = py::tuple(py::cast(loss_names()));
  module.attr("init_names") = py::tuple(py::cast(init_names()));
}

}  // namespace chainrule::bindings
