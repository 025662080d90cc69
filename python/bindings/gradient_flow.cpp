#include "gradient_flow.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <tuple>

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

std::optional<double> known(double figure) { return std::isnan(figure) ? std::nullopt : std::optional<double>(figure); }
void read(const double* from, ParameterFlow& flow) {
  flow = {from[0], from[1], from[2], known(from[3]), from[4], static_cast<Index>(from[5]), static_cast<Index>(from[6])};
}

void write(const LayerFlow& flow, double* to) {
  const double figures[] = {flow.saturated.value_or(nothing), flow.dead.value_or(nothing), flow.activation_mean,
                            flow.activation_variance, flow.delta_norm};
  std::copy(std::begin(figures), std::end(figures), to);
}
constexpr Index layer_figures = 5;
void read(const double* from, LayerFlow& flow) { flow = {known(from[0]), known(from[1]), from[2], from[3], from[4]}; }

/// (steps, rows, figures)
template <class Row>
py::array_t<double> array_of(std::span<const GradientFlowReport> flows, std::vector<Row> GradientFlowReport::* rows,
                             Index figures) {
  const std::size_t count = flows.empty() ? 0 : (flows.front().*rows).size();
  py::array_t<double> result({static_cast<Index>(flows.size()), static_cast<Index>(count), figures});
  double* to = result.mutable_data();
  for (const GradientFlowReport& flow : flows) {
    if ((flow.*rows).size() != count) throw std::logic_error("the record is of networks of different depths");
    for (const Row& row : flow.*rows) {
      write(row, to);
      to += figures;
    }
  }
  return result;
}

template <class Row>
void read_array(const py::object& given, std::vector<GradientFlowReport>& flows,
                std::vector<Row> GradientFlowReport::* rows, Index figures) {
  const auto array = given.cast<py::array_t<double, py::array::c_style | py::array::forcecast>>();
  if (array.ndim() != 3 || array.shape(0) != static_cast<Index>(flows.size()) || array.shape(2) != figures)
    throw py::value_error("this is no state of a FlowRecord");
  const double* from = array.data();
  for (GradientFlowReport& flow : flows)
    for (Index i = 0; i < array.shape(1); ++i, from += figures) read(from, (flow.*rows).emplace_back());
}

py::list histogram_list(const std::vector<ActivationHistogram>& histograms) {
  py::list list;
  for (const ActivationHistogram& histogram : histograms)
    list.append(py::make_tuple(histogram.low, histogram.high, histogram.counts));
  return list;
}

/// Of the recorded steps `first` … `last` - 1.
py::dict record_dict(const FlowRecord& record, Index first, std::optional<Index> last) {
  std::vector<GradientFlowReport> flows;
  std::vector<Index> recorded;
  std::vector<ActivationHistogram> histograms;
  {  // Not while Python objects are made: that may run anything, and let go of the interpreter.
    const std::lock_guard<std::mutex> lock(record.mutex);
    const auto size = static_cast<Index>(record.flows.size());
    const Index begin = std::clamp<Index>(first, 0, size), end = std::clamp(last.value_or(size), begin, size);
    flows.assign(record.flows.begin() + begin, record.flows.begin() + end);
    recorded.assign(record.recorded.begin() + begin, record.recorded.begin() + end);
    if (end == size) histograms = record.histograms;
  }
  std::vector<Index> rows;
  std::vector<std::optional<double>> losses;
  for (const GradientFlowReport& flow : flows) {
    rows.push_back(flow.rows);
    losses.push_back(flow.loss);
  }
  py::dict result;
  result["recorded"] = recorded;
  result["rows"] = rows;
  result["loss"] = losses;
  result["parameters"] = array_of(flows, &GradientFlowReport::parameters, parameter_figures);
  result["layers"] = array_of(flows, &GradientFlowReport::layers, layer_figures);
  result["histograms"] = histogram_list(histograms);
  return result;
}

/// All that a pickle holds.
py::tuple state_of(const FlowRecord& record) {
  const py::dict flows = record_dict(record, 0, {});
  Index steps = 0;
  {
    const std::lock_guard<std::mutex> lock(record.mutex);
    steps = record.steps;
  }
  return py::make_tuple(record.every, steps, flows);
}

std::unique_ptr<FlowRecord> from_state(const py::tuple& state) {
  if (state.size() != 3) throw py::value_error("this is no state of a FlowRecord");
  auto record = std::make_unique<FlowRecord>(state[0].cast<std::optional<Index>>());
  record->steps = state[1].cast<Index>();
  const auto from = state[2].cast<py::dict>();
  record->recorded = from["recorded"].cast<std::vector<Index>>();
  const auto rows = from["rows"].cast<std::vector<Index>>();
  const auto losses = from["loss"].cast<std::vector<std::optional<double>>>();
  if (rows.size() != record->recorded.size() || losses.size() != rows.size())
    throw py::value_error("this is no state of a FlowRecord");
  for (std::size_t i = 0; i < rows.size(); ++i) record->flows.push_back({{}, {}, rows[i], losses[i]});
  read_array(from["parameters"], record->flows, &GradientFlowReport::parameters, parameter_figures);
  read_array(from["layers"], record->flows, &GradientFlowReport::layers, layer_figures);
  for (const py::handle histogram : from["histograms"]) {
    auto [low, high, counts] = histogram.cast<std::tuple<double, double, std::vector<Index>>>();
    record->histograms.push_back({low, high, std::move(counts)});
  }
  return record;
}

}  // namespace

py::dict as_dict(const GradientFlowReport& flow, const std::vector<ActivationHistogram>& histograms) {
  py::dict result;
  const std::span<const GradientFlowReport> one(&flow, 1);
  result["rows"] = flow.rows;
  result["loss"] = flow.loss;
  result["parameters"] = array_of(one, &GradientFlowReport::parameters, parameter_figures).attr("__getitem__")(0);
  result["layers"] = array_of(one, &GradientFlowReport::layers, layer_figures).attr("__getitem__")(0);
  result["histograms"] = histogram_list(histograms);
  return result;
}

void register_gradient_flow(py::module_& module) {
  py::class_<FlowRecord>(module, "FlowRecord")
      .def(py::init<std::optional<Index>>(), py::arg("every"))
      .def_readonly("every", &FlowRecord::every)
      .def("__len__",
           [](const FlowRecord& record) {
             const std::lock_guard<std::mutex> lock(record.mutex);
             return record.recorded.size();
           })
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
      .def("flows", &record_dict, py::arg("first") = 0, py::arg("last") = py::none())
      .def(py::pickle(&state_of, &from_state));
}

}  // namespace chainrule::bindings
