#pragma once

#include <pybind11/pybind11.h>

namespace chainrule::bindings {

/// Takes a T from Python only if its constructor has run. What `cls.__new__(cls)` makes has none; pybind11 would give
/// memory that holds anything.
template <class T>
struct ConstructedCaster : pybind11::detail::type_caster_base<T> {
  bool load(pybind11::handle given, bool convert) {
    if (!pybind11::detail::type_caster_base<T>::load(given, convert)) return false;
    auto* instance = reinterpret_cast<pybind11::detail::instance*>(given.ptr());
    if (!given.is_none() && instance->owned && !instance->get_value_and_holder().holder_constructed())
      throw pybind11::type_error(
          pybind11::str("{}.__init__() was not called").format(pybind11::type::of(given).attr("__name__")));
    return true;
  }
};

}  // namespace chainrule::bindings
