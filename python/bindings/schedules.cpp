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
  py::class_<ScheduleOf<S>, AnySchedule> cls(module, name, (call(name, S{}, settings...) + "\n\n" + doc).c_str());
  cls.def(py::init([=](const py::args& args, const py::kwargs& kwargs) {
    return ScheduleOf<S>(with_settings<S>(name, args, kwargs, settings...));
  }));
  def_signature(cls, S{}, settings...);
  (cls.def_property_readonly(settings.name,
                             [settings](const ScheduleOf<S>& self) { return settings.get(self.settings()); }),
   ...);
  cls.def("__repr__", [=](const ScheduleOf<S>& self) { return call(name, self.settings(), settings...); });
  const auto values = [=]([[maybe_unused]] const ScheduleOf<S>& self) {
    return py::make_tuple(settings.get(self.settings())...);
  };
  def_value(cls, values);
}

// Under the parameters of each.
constexpr const char* raises = R"(
Raises
------
ValueError
    For a setting out of range.
TypeError
    For a setting of another type, or one that is unknown or given twice.
)";

constexpr const char* constant_rate_doc = R"(The optimizer's lr throughout.

Raises
------
TypeError
    For any argument.
)";

constexpr const char* step_decay_doc = R"(The rate falls by a factor every few epochs: lr·gamma^⌊epoch / step_size⌋.

Epochs count from 0 in each fit, and lr is the optimizer's when it begins. As ``torch.optim.lr_scheduler.StepLR``.

Parameters
----------
step_size : int, default 10
    Epochs from one fall to the next, at least 1.
gamma : float, default 0.1
    The factor; finite and > 0.
)";

constexpr const char* exponential_decay_doc = R"(The rate falls by a factor every epoch: lr·gamma^epoch.

Epochs count from 0 in each fit, and lr is the optimizer's when it begins. As
``torch.optim.lr_scheduler.ExponentialLR``.

Parameters
----------
gamma : float, default 0.95
    The factor; finite and > 0.
)";

constexpr const char* cosine_decay_doc = R"(The rate falls along half a cosine, epoch by epoch.

eta_min + (lr - eta_min)·(1 + cos(π·epoch / epochs)) / 2, where epochs count from 0, `epochs` is that of the fit and lr
the optimizer's when it begins. As ``torch.optim.lr_scheduler.CosineAnnealingLR``.

Parameters
----------
eta_min : float, default 0
    Where it would end after the last epoch; finite and >= 0.
)";
constexpr const char* cosine_decay_references = R"(
References
----------
Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts. ICLR 2017.
)";

constexpr const char* one_cycle_doc = R"(The rate rises to lr and falls far below it, step by step, along cosines.

From lr / div_factor up to lr in the first `pct_start` of all steps of the fit, then down to
lr / (div_factor·final_div_factor) in the last. As ``torch.optim.lr_scheduler.OneCycleLR`` with lr, the optimizer's when
the fit begins, as max_lr. An iterable of blocks does not tell the number of steps: `MLP.fit` then raises ValueError.

Parameters
----------
pct_start : float, default 0.3
    Share of the steps in which it rises, in [0, 1].
div_factor : float, default 25
    lr over the first rate; finite and > 0.
final_div_factor : float, default 1e4
    The first rate over the last; finite and > 0.
)";
constexpr const char* one_cycle_references = R"(
References
----------
Smith, Topin: Super-convergence: very fast training of neural networks using large learning rates. arXiv:1708.07120,
2018.
)";

constexpr const char* warmup_doc = R"(The rate rises linearly, step by step, in the first epochs, and then stays.

From start_factor·lr to lr, the optimizer's when the fit begins. As ``torch.optim.lr_scheduler.LinearLR``. An iterable
of blocks does not tell the number of steps: `MLP.fit` then raises ValueError.

Parameters
----------
epochs : int, default 5
    How many, at least 1.
start_factor : float, default 0.1
    The first rate over lr, in (0, 1].
)";

constexpr const char* plateau_doc = R"(The rate falls by a factor whenever the loss has stopped falling.

That is the validation loss, or without validation the training loss. It has become better where it is less than
(1 - threshold) times the least so far. As ``torch.optim.lr_scheduler.ReduceLROnPlateau``.

Parameters
----------
factor : float, default 0.1
    What the rate is multiplied by, in (0, 1).
patience : int, default 10
    The rate falls after more than that many epochs in a row without a better loss; at least 0.
threshold : float, default 1e-4
    See above; finite and >= 0.
min_lr : float, default 0
    Below which the rate does not fall; finite and >= 0.
)";

}  // namespace

void register_schedules(py::module_& module) {
  py::class_<AnySchedule>(module, "Schedule", "How the learning rate changes in the course of a fit.");
  def_schedule<ConstantRate>(module, "ConstantRate", constant_rate_doc);
  def_schedule<StepDecay>(module, "StepDecay", std::string(step_decay_doc) + raises,
                          setting("step_size", &StepDecay::step_size), setting("gamma", &StepDecay::gamma));
  def_schedule<ExponentialDecay>(module, "ExponentialDecay", std::string(exponential_decay_doc) + raises,
                                 setting("gamma", &ExponentialDecay::gamma));
  def_schedule<CosineDecay>(module, "CosineDecay", std::string(cosine_decay_doc) + raises + cosine_decay_references,
                            setting("eta_min", &CosineDecay::eta_min));
  def_schedule<OneCycle>(module, "OneCycle", std::string(one_cycle_doc) + raises + one_cycle_references,
                         setting("pct_start", &OneCycle::pct_start), setting("div_factor", &OneCycle::div_factor),
                         setting("final_div_factor", &OneCycle::final_div_factor));
  def_schedule<Warmup>(module, "Warmup", std::string(warmup_doc) + raises, setting("epochs", &Warmup::epochs),
                       setting("start_factor", &Warmup::start_factor));
  def_schedule<Plateau>(module, "Plateau", std::string(plateau_doc) + raises, setting("factor", &Plateau::factor),
                        setting("patience", &Plateau::patience), setting("threshold", &Plateau::threshold),
                        setting("min_lr", &Plateau::min_lr));
}

}  // namespace chainrule::bindings
