#include "schedules.hpp"

#include <string>

#include "register.hpp"
#include "settings.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

namespace {

template <class S>
struct ScheduleOf : AnySchedule {
  explicit ScheduleOf(S settings) : AnySchedule{settings} { check(schedule); }
  const S& settings() const { return std::get<S>(schedule); }
};

/// A class whose constructor takes the settings in order or by name, with the defaults of S.
template <class S, class... Get, class... Set>
void def_schedule(py::module_& module, const char* name, const std::string& doc, Setting<Get, Set>... settings) {
  const std::string signature = call(name, S{}, settings...) + "\n\n";
  py::class_<ScheduleOf<S>, AnySchedule> cls(module, name, (signature + doc).c_str());
  cls.def(py::init([=](const py::args& args, const py::kwargs& kwargs) {
    return ScheduleOf<S>(with_settings<S>(name, args, kwargs, settings...));
  }));
  (cls.def_property_readonly(settings.name,
                             [settings](const ScheduleOf<S>& self) { return settings.get(self.settings()); }),
   ...);
  cls.def("__repr__", [=](const ScheduleOf<S>& self) { return call(name, self.settings(), settings...); });
  const auto values = [=]([[maybe_unused]] const ScheduleOf<S>& self) {
    return py::make_tuple(settings.get(self.settings())...);
  };
  cls.def("__reduce__", [values](const py::object& self) {
    return py::make_tuple(py::type::of(self), values(self.cast<const ScheduleOf<S>&>()));
  });
  cls.def("__eq__", [values](const ScheduleOf<S>& self, const py::object& other) {
    return py::isinstance<ScheduleOf<S>>(other) && values(self).equal(values(other.cast<const ScheduleOf<S>&>()));
  });
  cls.def("__hash__", [values](const ScheduleOf<S>& self) { return py::hash(values(self)); });
}

}  // namespace

void register_schedules(py::module_& module) {
  py::class_<AnySchedule>(module, "Schedule", "How the learning rate changes in the course of a fit.");
  def_schedule<ConstantRate>(module, "ConstantRate", "The optimizer's lr throughout.");
  def_schedule<StepDecay>(module, "StepDecay", "lr·gamma^⌊epoch / step_size⌋, as ``torch.optim.lr_scheduler.StepLR``.",
                          setting("step_size", &StepDecay::step_size), setting("gamma", &StepDecay::gamma));
  def_schedule<ExponentialDecay>(module, "ExponentialDecay",
                                 "lr·gamma^epoch, as ``torch.optim.lr_scheduler.ExponentialLR``.",
                                 setting("gamma", &ExponentialDecay::gamma));
  def_schedule<CosineDecay>(module, "CosineDecay",
                            "eta_min + (lr - eta_min)·(1 + cos(π·epoch / epochs)) / 2, as\n"
                            "``torch.optim.lr_scheduler.CosineAnnealingLR`` (Loshchilov & Hutter 2017).",
                            setting("eta_min", &CosineDecay::eta_min));
  def_schedule<OneCycle>(
      module, "OneCycle",
      "Step by step from lr / div_factor up to lr in the first ``pct_start`` of all steps, then down to\n"
      "lr / (div_factor·final_div_factor), both along a cosine, as ``torch.optim.lr_scheduler.OneCycleLR``\n"
      "(Smith & Topin 2018).",
      setting("pct_start", &OneCycle::pct_start), setting("div_factor", &OneCycle::div_factor),
      setting("final_div_factor", &OneCycle::final_div_factor));
  def_schedule<Warmup>(module, "Warmup",
                       "Step by step, linearly, from start_factor·lr to lr over the first ``epochs`` epochs, as\n"
                       "``torch.optim.lr_scheduler.LinearLR``.",
                       setting("epochs", &Warmup::epochs), setting("start_factor", &Warmup::start_factor));
  def_schedule<Plateau>(
      module, "Plateau",
      "lr·factor whenever the validation loss (the training loss without validation) has not become better,\n"
      "by the relative ``threshold``, for more than ``patience`` epochs, as\n"
      "``torch.optim.lr_scheduler.ReduceLROnPlateau``.",
      setting("factor", &Plateau::factor), setting("patience", &Plateau::patience),
      setting("threshold", &Plateau::threshold), setting("min_lr", &Plateau::min_lr));
}

}  // namespace chainrule::bindings
