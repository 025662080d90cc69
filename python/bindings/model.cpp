#include "model.hpp"

#include "derivatives.hpp"
#include "register.hpp"
#include "trainer.hpp"

namespace chainrule::bindings {

namespace {

template <class T>
void register_model(py::module_& module, const char* name) {
  using M = Model<T>;
  ModelClass<T> model(module, name);
  model
      .def(py::init<const std::vector<Index>&, const std::vector<Activation>&, Loss, const std::vector<Init>&,
                    std::uint64_t, std::vector<double>>(),
           py::arg("layer_sizes"), py::arg("activations"), py::arg("loss"), py::arg("inits"), py::arg("seed"),
           py::arg("dropout") = std::vector<double>())
      .def_property("seed", &M::seed, &M::set_seed)
      .def_property_readonly("n_parameters", &M::parameter_count)
      .def_property_readonly("layer_sizes", &M::layer_sizes)
      .def_property_readonly("activations", &M::activations)
      .def_property_readonly("dropout", &M::dropout)
      .def_property_readonly("loss", &M::loss)
      .def("refuse_this_thread", [](M& model) { model.lock().refuse_here(); })
      .def_property("epochs_trained", &M::epochs_trained, &M::set_epochs_trained)
      .def_property("rows_drawn", &M::rows_drawn, &M::set_rows_drawn)
      .def_property_readonly("parameters", &M::parameters)
      .def_property_readonly("gradient", &M::gradient)
      .def("weights", &M::weights)
      .def("biases", &M::biases)
      .def("weight_gradients", &M::weight_gradients)
      .def("bias_gradients", &M::bias_gradients)
      .def("tape_activations", &M::tape_activations)
      .def("tape_pre_activations", &M::tape_pre_activations)
      .def("tape_deltas", &M::tape_deltas)
      .def("forward", &M::forward, py::arg("X"))
      .def("backward", &M::backward, py::arg("y"), py::arg("sample_weight") = py::none(), py::arg("lr") = py::none())
      .def("pullback", &M::pullback, py::arg("grad_output"))
      .def("predict", &M::predict, py::arg("X"))
      .def("evaluate", &M::evaluate, py::arg("X"), py::arg("y"), py::arg("sample_weight") = py::none())
      .def("step", &M::step, py::arg("X"), py::arg("y"), py::arg("optimizer"), py::arg("sample_weight") = py::none())
      .def("loss_and_gradient", &M::loss_and_gradient, py::arg("X"), py::arg("y"),
           py::arg("sample_weight") = py::none())
      .def("apply", &M::apply, py::arg("optimizer"))
      .def("gradient_flow", &M::gradient_flow)
      .def("copy", [](const M& self) { return std::make_unique<M>(self); });
  def_trainer(model);
  def_derivatives(model);
}

}  // namespace

void register_models(py::module_& module) {
  py::class_<AnyModel>(module, "Model");
  register_model<float>(module, "ModelFloat32");
  register_model<double>(module, "ModelFloat64");
}

}  // namespace chainrule::bindings
