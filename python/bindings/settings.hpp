#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <chainrule/matrix.hpp>
#include <string>
#include <type_traits>
#include <utility>

namespace chainrule::bindings {

/// One setting of an optimizer or a schedule S: its name in Python, `get(const S&)` and `set(S&, value)`.
template <class Get, class Set>
struct Setting {
  const char* name;
  Get get;
  Set set;
};
template <class Get, class Set>
Setting(const char*, Get, Set) -> Setting<Get, Set>;  // clang < 17 needs it

template <class S, class Value>
auto setting(const char* name, Value S::* field) {
  return Setting{name, [field](const S& from) { return from.*field; },
                 [field](S& to, Value value) { to.*field = value; }};
}

/// Whether it is True or False, of Python's or NumPy's, or a pair with one.
inline bool holds_bool(pybind11::handle given) {
  if (PyTuple_Check(given.ptr()) || PyList_Check(given.ptr())) {
    const auto items = pybind11::reinterpret_borrow<pybind11::sequence>(given);
    return std::any_of(items.begin(), items.end(), [](pybind11::handle item) { return holds_bool(item); });
  }
  return PyBool_Check(given.ptr()) || pybind11::isinstance(given, pybind11::module_::import("numpy").attr("bool_"));
}

/// A setting's value from Python's. True and False are no numbers, nor are numbers True or False.
template <class Value>
Value setting_value(const char* name, pybind11::handle given) {
  constexpr bool is_bool = std::is_same_v<Value, bool>;
  pybind11::detail::make_caster<Value> caster;
  if (caster.load(given, !is_bool) && (is_bool || !holds_bool(given))) return pybind11::detail::cast_op<Value>(caster);
  const char* expected = is_bool                         ? "True or False"
                         : std::is_same_v<Value, double> ? "a number"
                         : std::is_same_v<Value, Index>  ? "an integer"
                                                         : "two numbers";
  constexpr bool is_number = std::is_same_v<Value, double> || std::is_same_v<Value, Index>;
  const bool too_large = is_number && PyLong_Check(given.ptr()) && !PyBool_Check(given.ptr());
  const std::string text =
      pybind11::str("{} is {}; expected {}{}")
          .format(name, pybind11::module_::import("chainrule._arguments").attr("shown")(given), expected,
                  too_large ? (std::is_same_v<Value, double> ? " up to 1.8e308" : " up to 2**63 - 1") : "");
  if (too_large) throw pybind11::value_error(text);
  throw pybind11::type_error(text);
}

/// `S{}` changed by the arguments of a constructor: the settings in their order, or by their names.
template <class S, class... Get, class... Set>
S with_settings(const char* type, const pybind11::args& args, const pybind11::kwargs& kwargs,
                const Setting<Get, Set>&... settings) {
  const std::array<const char*, sizeof...(settings)> names{settings.name...};
  const pybind11::object takes = pybind11::str(", ").attr("join")(pybind11::make_tuple(settings.name...));
  const auto refuse = [&](const std::string& what) {
    throw pybind11::type_error(pybind11::str("{}() got {}; it takes ({})").format(type, what, takes));
  };
  if (args.size() > names.size()) refuse(std::to_string(args.size()) + " arguments");
  for (const auto& [key, value] : kwargs) {
    const std::string name = pybind11::str(key);
    const auto known = std::find(names.begin(), names.end(), name);
    if (known == names.end()) refuse("an unknown argument '" + name + "'");
    if (known < names.begin() + args.size()) refuse("'" + name + "' twice");
  }
  S made;
  std::size_t i = 0;
  [[maybe_unused]] const auto take = [&](const auto& each) {
    using Value = decltype(each.get(made));
    if (i < args.size())
      each.set(made, setting_value<Value>(each.name, args[i]));
    else if (kwargs.contains(each.name))
      each.set(made, setting_value<Value>(each.name, kwargs[each.name]));
    ++i;
  };
  (take(settings), ...);
  return made;
}

/// What `inspect.signature` shows of the constructor; not of a subclass that has another.
template <class S, class Class, class... Get, class... Set>
void def_signature(Class& cls, const S& defaults, const Setting<Get, Set>&... settings) {
  const pybind11::module_ inspect = pybind11::module_::import("inspect");
  const pybind11::object parameter = inspect.attr("Parameter");
  pybind11::list parameters;
  [[maybe_unused]] const auto append = [&](const char* name, const auto& value) {
    parameters.append(parameter(name, parameter.attr("POSITIONAL_OR_KEYWORD"), pybind11::arg("default") = value));
  };
  (append(settings.name, settings.get(defaults)), ...);
  const pybind11::object signature = inspect.attr("Signature")(parameters), own = cls.attr("__init__");
  cls.def_property_readonly_static("__signature__", [signature, own](const pybind11::object& type) {
    if (const pybind11::object init = type.attr("__init__"); !init.is(own))
      throw pybind11::attribute_error("__signature__");
    return signature;
  });
}

/// "SGD(lr=0.001, momentum=0.0)": what makes it, from its own values.
template <class S, class... Get, class... Set>
std::string call(const char* type, [[maybe_unused]] const S& made, const Setting<Get, Set>&... settings) {
  pybind11::list shown;
  (shown.append(pybind11::str("{}={!r}").format(settings.name, settings.get(made))), ...);
  return pybind11::str("{}({})").format(type, pybind11::str(", ").attr("join")(shown));
}

/// A value type is rebuilt from the arguments of its constructor: for pickle, copy, == and hash.
template <class Class, class Arguments>
void def_value(Class& cls, const Arguments& arguments) {
  using Value = typename Class::type;
  cls.def("__reduce__", [arguments](const pybind11::object& self) {
    return pybind11::make_tuple(pybind11::type::of(self), arguments(self.cast<const Value&>()));
  });
  cls.def("__eq__", [arguments](const Value& self, const pybind11::object& other) {
    return pybind11::isinstance<Value>(other) && arguments(self).equal(arguments(other.cast<const Value&>()));
  });
  cls.def("__hash__", [arguments](const Value& self) { return pybind11::hash(arguments(self)); });
}

}  // namespace chainrule::bindings
