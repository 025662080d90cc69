#pragma once

#include <chainrule/schedule.hpp>
#include <concepts>

#include "constructed.hpp"

namespace chainrule::bindings {

struct AnySchedule {
  Schedule schedule;
};

}  // namespace chainrule::bindings

template <std::derived_from<chainrule::bindings::AnySchedule> T>
struct pybind11::detail::type_caster<T> : chainrule::bindings::ConstructedCaster<T> {};
