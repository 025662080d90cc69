#pragma once

#include <pybind11/pybind11.h>

namespace chainrule::bindings {

void register_values(pybind11::module_& module);      // Activation, Loss, Init
void register_optimizers(pybind11::module_& module);  // SGD, RMSprop, Adam, AdamW
void register_schedules(pybind11::module_& module);
void register_fit_queue(pybind11::module_& module);
void register_numpy_shuffles(pybind11::module_& module);
void register_gradient_flow(pybind11::module_& module);
void register_non_finite();                       // NonFiniteError
void register_models(pybind11::module_& module);  // ModelFloat32, ModelFloat64

}  // namespace chainrule::bindings
