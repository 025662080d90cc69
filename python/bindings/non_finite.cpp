#include "non_finite.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <string>

#include "register.hpp"

namespace chainrule::bindings {

namespace {

constexpr const char* causes[] = {"bad input", "bad weight", "overflow"};

/// The package's exception, which carries where it was.
void raise(const NonFiniteError& error) {
  const py::module_ module = py::module_::import("chainrule.non_finite");
  const py::object where = module.attr("NonFinite")(**as_dict(error.where));
  const py::object exception = module.attr("NonFiniteError")(where);
  PyErr_SetObject(py::type::handle_of(exception).ptr(), exception.ptr());
}

}  // namespace

py::dict as_dict(const NonFinite& where) {
  py::dict result;
  result["cause"] = causes[static_cast<int>(where.cause)];
  result["tensor"] = where.tensor;
  result["layer"] = where.layer;
  result["row"] = where.row;
  result["column"] = where.column;
  result["value"] = where.value;
  result["loss"] = where.loss;
  result["epoch"] = where.epoch;
  result["batch"] = where.batch;
  result["step"] = where.step;
  return result;
}

NonFinite non_finite(const py::dict& from) {
  NonFinite where;
  const auto cause = std::find(std::begin(causes), std::end(causes), from["cause"].cast<std::string>());
  if (cause == std::end(causes)) throw py::value_error("there is no such cause");
  where.cause = static_cast<NonFinite::Cause>(cause - std::begin(causes));
  where.tensor = from["tensor"].cast<std::string>();
  where.layer = from["layer"].cast<Index>();
  where.row = from["row"].cast<Index>();
  where.column = from["column"].cast<Index>();
  where.value = from["value"].cast<double>();
  where.loss = from["loss"].cast<double>();
  where.epoch = from["epoch"].cast<Index>();
  where.batch = from["batch"].cast<Index>();
  where.step = from["step"].cast<Index>();
  return where;
}

void register_non_finite() {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const NonFiniteError& error) {
      raise(error);
    }
  });
}

}  // namespace chainrule::bindings
