#pragma once

#include "model.hpp"

namespace chainrule::bindings {

/// The methods that train.
template <class T>
void def_trainer(ModelClass<T>& model);

}  // namespace chainrule::bindings
