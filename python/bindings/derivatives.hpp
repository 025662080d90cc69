#pragma once

#include "model.hpp"

namespace chainrule::bindings {

/// The methods that take derivatives, on tapes of their own.
template <class T>
void def_derivatives(ModelClass<T>& model);

}  // namespace chainrule::bindings
