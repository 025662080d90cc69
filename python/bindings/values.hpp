#pragma once

#include <pybind11/pybind11.h>

#include <chainrule/activation.hpp>
#include <chainrule/init.hpp>
#include <chainrule/loss.hpp>

#include "constructed.hpp"

// Classes of their own in Python, not the alternatives that pybind11/stl.h would make of a variant.
template <>
struct pybind11::detail::type_caster<chainrule::Activation>
    : chainrule::bindings::ConstructedCaster<chainrule::Activation> {};
template <>
struct pybind11::detail::type_caster<chainrule::Loss> : chainrule::bindings::ConstructedCaster<chainrule::Loss> {};
template <>
struct pybind11::detail::type_caster<chainrule::Init> : chainrule::bindings::ConstructedCaster<chainrule::Init> {};
