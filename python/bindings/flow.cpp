#include "flow.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <mutex>

#include "register.hpp"

namespace chainrule::bindings {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

void write(const ParameterFlow& flow, double* to) {
  const double figures[] = {flow.mean_abs,
                            flow.max_abs,
                            flow.norm,
                            flow.update_ratio.value_or(nothing),
                            flow.zeros,
                            static_cast<double>(flow.nan),
                            static_cast<double>(flow.inf)};
  std::copy(std::begin(figures), std::end(figures), to);
}
constexpr Index parameter_figures = 7;

void write(const LayerFlow& flow, double* to) {
  const double figures[] = {flow.saturated.value_or(nothing), flow.dead.value_or(nothing), flow.activation_mean,
                            flow.activation_variance, flow.delta_norm};
  std::copy(std::begin(figures), std::end(figures), to);
}
constexpr Index layer_figures = 5;

/// (steps, rows, figures)
template <class Row>
py::array_t<double> array_of(const std::vector<GradientFlow>& flows, std::vector<Row> GradientFlow::* rows,
                             Index figures) {
  const Index count = flows.empty() ? 0 : static_cast<Index>((flows.front().*rows).size());
  py::array_t<double> result({static_cast<Index>(flows.size()), count, figures});
  double* to = result.mutable_data();
  for (const GradientFlow& flow : flows)
    for (const Row& row : flow.*rows) {
      write(row, to);
      to += figures;
    }
  return result;
}

py::list histogram_list(const std::vector<ActivationHistogram>& histograms) {
  py::list list;
  for (const ActivationHistogram& histogram : histograms)
    list.append(py::make_tuple(histogram.low, histogram.high, histogram.counts));
  return list;
}

py::dict record_dict(const FlowRecord& record) {
  const std::lock_guard<std::mutex> lock(record.mutex);
  py::dict result;
  result["recorded"] = record.recorded;
  result["parameters"] = array_of(record.flows, &GradientFlow::parameters, parameter_figures);
  result["layers"] = array_of(record.flows, &GradientFlow::layers, layer_figures);
  result["histograms"] = histogram_list(record.histograms);
  return result;
}

/// The package's exception, which carries where it was.
void raise(const NonFiniteError& error) {
  const py::module_ module = py::module_::import("chainrule.non_finite");
  const py::object where = module.attr("NonFinite")(**non_finite_dict(error.where));
  const py::object exception = module.attr("NonFiniteError")(where);
  PyErr_SetObject(py::type::handle_of(exception).ptr(), exception.ptr());
}

}  // namespace

py::dict flow_dict(const GradientFlow& flow, const std::vector<ActivationHistogram>& histograms) {
  py::dict result;
  const std::vector<GradientFlow> one{flow};
  result["parameters"] = array_of(one, &GradientFlow::parameters, parameter_figures).attr("__getitem__")(0);
  result["layers"] = array_of(one, &GradientFlow::layers, layer_figures).attr("__getitem__")(0);
  result["histograms"] = histogram_list(histograms);
  return result;
}

constexpr const char* causes[] = {"bad input", "bad weight", "overflow"};

py::dict non_finite_dict(const NonFinite& where) {
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

NonFinite non_finite_of(const py::dict& from) {
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

void register_flow(py::module_& module) {
  py::class_<FlowRecord>(module, "FlowRecord")
      .def(py::init<std::optional<Index>>(), py::arg("every"))
      .def_readonly("every", &FlowRecord::every)
      .def_property_readonly("steps",
                             [](const FlowRecord& record) {
                               const std::lock_guard<std::mutex> lock(record.mutex);
                               return record.steps;
                             })
      .def(
          "begin",
          [](FlowRecord& record, Index steps) {
            const std::lock_guard<std::mutex> lock(record.mutex);
            if (record.steps == 0) record.steps = steps;
          },
          py::arg("steps"))
      .def("flows", &record_dict);
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const NonFiniteError& error) {
      raise(error);
    }
  });
}

}  // namespace chainrule::bindings
