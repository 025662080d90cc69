#include "derivatives.hpp"

#include "interpreter.hpp"

namespace chainrule::bindings {

namespace {

template <class T>
py::array_t<T> jacobian(Model<T>& model, const py::object& X) {
  const InputsIn<T> in = model.inputs(X);
  py::array_t<T> result({in.rows(), model.network().outputs(), model.network().inputs()});
  T* to = result.mutable_data();
  const Exclusive exclusive(model.lock());
  chainrule::jacobian<T>(model.network(), in.view(), model.scratch(in.rows()), to, check_signals);
  return result;
}

template <class T>
py::array_t<T> input_gradient(Model<T>& model, const py::object& X, std::optional<Index> output) {
  const InputsIn<T> in = model.inputs(X);
  if (!output && model.network().outputs() > 1)
    throw py::value_error("output is missing; this network has " + std::to_string(model.network().outputs()) +
                          " outputs: name one, from 0, or take the jacobian");
  py::array_t<T> result({in.rows(), model.network().inputs()});
  T* to = result.mutable_data();
  const Exclusive exclusive(model.lock());
  chainrule::input_gradient<T>(model.network(), in.view(), output.value_or(0), model.scratch(in.rows()), to,
                               check_signals);
  return result;
}

template <class T>
py::array_t<T> jvp(Model<T>& model, const py::object& X, const py::object& V) {
  const InputsIn<T> in = model.inputs(X);
  const MatrixIn<T> directions = matrix<T>(V, "V", model.network().inputs(), Model<T>::taker);
  if (directions.rows != in.rows())
    throw py::value_error("V has " + std::to_string(directions.rows) + " rows; X has " + std::to_string(in.rows()));
  py::array_t<T> result({in.rows(), model.network().outputs()});
  T* to = result.mutable_data();
  const Exclusive exclusive(model.lock());
  chainrule::jvp<T>(model.network(), in.view(), directions.view(), model.scratch(in.rows()), to, check_signals);
  return result;
}

template <class T>
py::array_t<T> per_sample_gradients(Model<T>& model, const py::object& X, const py::object& y) {
  const SamplesIn<T> in = model.samples(X, y, py::none());
  py::array_t<T> result({in.X.rows(), model.parameter_count()});
  T* to = result.mutable_data();
  const Exclusive exclusive(model.lock());
  chainrule::per_sample_gradients<T>(model.network(), model.loss(), in.view(), model.scratch(in.X.rows()), to,
                                     check_signals);
  return result;
}

template <class T>
py::array_t<T> per_sample_gradient_norms(Model<T>& model, const py::object& X, const py::object& y) {
  const SamplesIn<T> in = model.samples(X, y, py::none());
  py::array_t<T> result(in.X.rows());
  T* to = result.mutable_data();
  const Exclusive exclusive(model.lock());
  chainrule::per_sample_gradient_norms<T>(model.network(), model.loss(), in.view(), model.scratch(in.X.rows()), to,
                                          check_signals);
  return result;
}

template <class T>
py::array_t<T> hvp(Model<T>& model, const py::object& X, const py::object& y, const py::object& v,
                   const py::object& sample_weight) {
  const SamplesIn<T> in = model.samples(X, y, sample_weight);
  const MatrixIn<T> direction = vector<T>(v, "v", model.parameter_count());
  py::array_t<T> result(model.parameter_count());
  T* to = result.mutable_data();
  const Exclusive exclusive(model.lock());
  Tape<T>& tape = model.scratch(in.X.rows());
  chainrule::hvp<T>(model.network(), model.loss(), in.view(), {direction.data, model.parameter_count()}, tape,
                    model.directional(tape.capacity()), {to, model.parameter_count()}, check_signals);
  return result;
}

template <class T>
py::dict check_gradients(const Model<T>& model, const py::object& X, const py::object& y,
                         const py::object& sample_weight) {
  const SamplesIn<T> in = model.samples(X, y, sample_weight);
  GradientCheck check;
  {
    const Released released;
    check = chainrule::check_gradients<T>(model.network(), model.loss(), in.view(), 1e-6, check_signals);
  }
  py::list parameters;
  for (const GradientCheck::Parameter& p : check.parameters) {
    py::dict row;
    row["name"] = p.name;
    row["relative_error"] = p.relative_error;
    parameters.append(row);
  }
  py::dict result;
  result["max_relative_error"] = check.max_relative_error;
  result["parameters"] = parameters;
  result["backprop_seconds"] = check.backprop_seconds;
  result["differences_seconds"] = check.differences_seconds;
  result["forward_passes"] = check.forward_passes;
  return result;
}

}  // namespace

template <class T>
void def_derivatives(ModelClass<T>& model) {
  model.def("jacobian", &jacobian<T>, py::arg("X"))
      .def("input_gradient", &input_gradient<T>, py::arg("X"), py::arg("output") = py::none())
      .def("jvp", &jvp<T>, py::arg("X"), py::arg("V"))
      .def("per_sample_gradients", &per_sample_gradients<T>, py::arg("X"), py::arg("y"))
      .def("per_sample_gradient_norms", &per_sample_gradient_norms<T>, py::arg("X"), py::arg("y"))
      .def("hvp", &hvp<T>, py::arg("X"), py::arg("y"), py::arg("v"), py::arg("sample_weight") = py::none())
      .def("check_gradients", &check_gradients<T>, py::arg("X"), py::arg("y"), py::arg("sample_weight") = py::none());
}

template void def_derivatives(ModelClass<float>&);
template void def_derivatives(ModelClass<double>&);

}  // namespace chainrule::bindings
