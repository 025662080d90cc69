#pragma once

#include <pybind11/pybind11.h>

#include <chainrule/non_finite.hpp>

namespace chainrule::bindings {

namespace py = pybind11;

/// The fields of NonFinite.
py::dict as_dict(const NonFinite& where);
NonFinite non_finite(const py::dict& from);

}  // namespace chainrule::bindings
