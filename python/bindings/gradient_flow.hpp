#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chainrule/gradient_flow.hpp>

#include "constructed.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

/// {"rows", "parameters": (2L, 7), "layers": (L, 5), "histograms"}: the columns are the fields of ParameterFlow and
/// LayerFlow, in their order, and NaN where there is nothing to say.
py::dict as_dict(const GradientFlowReport& flow, const std::vector<ActivationHistogram>& histograms);

}  // namespace chainrule::bindings

template <>
struct pybind11::detail::type_caster<chainrule::FlowRecord>
    : chainrule::bindings::ConstructedCaster<chainrule::FlowRecord> {};
