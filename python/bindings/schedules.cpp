#include "schedules.hpp"

#include <string>
#include <vector>

#include "register.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

namespace {

template <class S>
struct ScheduleOf : AnySchedule {
  explicit ScheduleOf(S settings) : AnySchedule{settings} { check(schedule); }
  const S& settings() const { return std::get<S>(schedule); }
};

template <class S, class Field>
struct Setting {
  const char* name;
  Field S::* field;
};

/// A class whose constructor takes the fields in order, by name, with the defaults of S.
template <class S, class... Field>
void def_schedule(py::module_& module, const char* name, const char* doc, Setting<S, Field>... settings) {
  [[maybe_unused]] const S defaults;
  py::class_<ScheduleOf<S>, AnySchedule> cls(module, name, doc);
  cls.def(py::init([settings...](Field... values) {
            S made;
            ((made.*settings.field = values), ...);
            return ScheduleOf<S>(made);
          }),
          (py::arg(settings.name) = defaults.*settings.field)...);
  (cls.def_property_readonly(settings.name,
                             [settings](const ScheduleOf<S>& self) { return self.settings().*settings.field; }),
   ...);
  const auto values = [settings...](const ScheduleOf<S>& self) {
    (void)self;
    return py::make_tuple(self.settings().*settings.field...);
  };
  cls.def("__reduce__", [values](const py::object& self) {
    return py::make_tuple(py::type::of(self), values(self.cast<const ScheduleOf<S>&>()));
  });
  cls.def("__eq__", [values](const ScheduleOf<S>& self, const py::object& other) {
    return py::isinstance<ScheduleOf<S>>(other) && values(self).equal(values(other.cast<const ScheduleOf<S>&>()));
  });
  cls.def("__hash__", [values](const ScheduleOf<S>& self) { return py::hash(values(self)); });
  const std::vector<std::string> names{settings.name...};
  cls.def("__repr__", [name, names, values](const ScheduleOf<S>& self) {
    std::string text = std::string(name) + "(";
    const py::tuple given = values(self);
    for (std::size_t i = 0; i < names.size(); ++i)
      text += (i ? ", " : "") + names[i] + "=" + std::string(py::repr(given[i]));
    return text + ")";
  });
}

}  // namespace

void register_schedules(py::module_& module) {
  py::class_<AnySchedule>(module, "Schedule", "How the learning rate changes in the course of a fit.");
  const auto field = []<class S, class F>(const char* name, F S::* pointer) { return Setting<S, F>{name, pointer}; };
  def_schedule<ConstantRate>(module, "ConstantRate", "The optimizer's lr throughout.");
  def_schedule(module, "StepDecay", "lr·gamma^⌊epoch / step_size⌋, as ``torch.optim.lr_scheduler.StepLR``.",
               field("step_size", &StepDecay::step_size), field("gamma", &StepDecay::gamma));
  def_schedule(module, "ExponentialDecay", "lr·gamma^epoch, as ``torch.optim.lr_scheduler.ExponentialLR``.",
               field("gamma", &ExponentialDecay::gamma));
  def_schedule(module, "CosineDecay",
               "eta_min + (lr - eta_min)·(1 + cos(π·epoch / epochs)) / 2, as\n"
               "``torch.optim.lr_scheduler.CosineAnnealingLR`` (Loshchilov & Hutter 2017).",
               field("eta_min", &CosineDecay::eta_min));
  def_schedule(module, "OneCycle",
               "Step by step from lr / div_factor up to lr in the first ``pct_start`` of all steps, then down to\n"
               "lr / (div_factor·final_div_factor), both along a cosine, as ``torch.optim.lr_scheduler.OneCycleLR``\n"
               "(Smith & Topin 2018).",
               field("pct_start", &OneCycle::pct_start), field("div_factor", &OneCycle::div_factor),
               field("final_div_factor", &OneCycle::final_div_factor));
  def_schedule(module, "Warmup",
               "Step by step, linearly, from start_factor·lr to lr over the first ``epochs`` epochs, as\n"
               "``torch.optim.lr_scheduler.LinearLR``.",
               field("epochs", &Warmup::epochs), field("start_factor", &Warmup::start_factor));
  def_schedule(module, "Plateau",
               "lr·factor whenever the validation loss (the training loss without validation) has not become better,\n"
               "by the relative ``threshold``, for more than ``patience`` epochs, as\n"
               "``torch.optim.lr_scheduler.ReduceLROnPlateau``.",
               field("factor", &Plateau::factor), field("patience", &Plateau::patience),
               field("threshold", &Plateau::threshold), field("min_lr", &Plateau::min_lr));
}

}  // namespace chainrule::bindings
