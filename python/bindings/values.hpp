#pragma once

#include <pybind11/pybind11.h>

#include <chainrule/activation.hpp>
#include <chainrule/init.hpp>
#include <chainrule/loss.hpp>

// Classes of their own in Python, not the alternatives that pybind11/stl.h would make of a variant.
PYBIND11_MAKE_OPAQUE(chainrule::Activation)
PYBIND11_MAKE_OPAQUE(chainrule::Loss)
PYBIND11_MAKE_OPAQUE(chainrule::Init)
