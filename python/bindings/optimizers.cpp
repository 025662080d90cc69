#include "optimizers.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>

#include "register.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

namespace {

// One Python class for each rule, so that each has the attributes of its own.
template <class R>
struct OptimizerOf : AnyOptimizer {
  explicit OptimizerOf(R rule) : AnyOptimizer(std::move(rule)) {}
  const R& settings() const { return std::get<R>(rule()); }
};

template <class R, class Field>
void def_setting(py::class_<OptimizerOf<R>, AnyOptimizer>& cls, const char* name, Field R::* field) {
  cls.def_property(
      name, [field](const OptimizerOf<R>& self) { return self.settings().*field; },
      [field](OptimizerOf<R>& self, Field value) {
        R changed = self.settings();
        changed.*field = value;
        self.set_rule(changed);
      });
}

template <class R>
void def_betas(py::class_<OptimizerOf<R>, AnyOptimizer>& cls) {
  cls.def_property(
      "betas", [](const OptimizerOf<R>& self) { return std::pair(self.settings().beta1, self.settings().beta2); },
      [](OptimizerOf<R>& self, std::pair<double, double> betas) {
        R changed = self.settings();
        std::tie(changed.beta1, changed.beta2) = betas;
        self.set_rule(changed);
      });
}

template <class T>
py::tuple moments_of(const Optimizer<T>& state) {
  py::list moments;
  for (int i = 0; i < max_moments; ++i) {
    if (!state.moment(i)) {
      moments.append(py::none());
      continue;
    }
    moments.append(py::array_t<T>(state.parameter_count(), state.moment(i)));
  }
  return py::make_tuple(py::dtype::of<T>().attr("name"), state.steps(), state.parameter_count(), moments);
}

template <class T>
void restore(AnyOptimizer& optimizer, const py::tuple& state) {
  Optimizer<T>& mine = optimizer.of<T>();
  const auto count = state[2].cast<Index>();
  mine.restore(state[1].cast<std::int64_t>(), count);
  const auto moments = state[3].cast<py::list>();
  for (int i = 0; i < max_moments; ++i) {
    const py::object moment = moments[static_cast<std::size_t>(i)];
    if (moment.is_none() != (mine.moment(i) == nullptr)) throw py::value_error("the state does not fit the settings");
    if (moment.is_none()) continue;
    const auto values = moment.cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
    if (values.size() != count) throw py::value_error("the state's moments differ in size from its parameters");
    std::copy_n(values.data(), count, mine.moment(i));
  }
}

/// (settings, state): all that a pickle holds.
template <class R>
py::tuple get_state(const py::object& self, const std::vector<std::string>& names) {
  py::dict settings;
  for (const std::string& name : names) settings[py::str(name)] = self.attr(name.c_str());
  return py::make_tuple(settings,
                        self.cast<const AnyOptimizer&>().visit_state(
                            [](const auto& state) -> py::object { return moments_of(state); }, py::object(py::none())));
}

template <class R>
std::unique_ptr<OptimizerOf<R>> from_state(const py::tuple& fields) {
  if (fields.size() != 2) throw py::value_error("this is no state of an optimizer");
  const py::object made = py::type::of<OptimizerOf<R>>()(**fields[0].cast<py::dict>());
  auto optimizer = std::make_unique<OptimizerOf<R>>(made.cast<const OptimizerOf<R>&>());
  if (!fields[1].is_none()) {
    const auto state = fields[1].cast<py::tuple>();
    if (state.size() != 4) throw py::value_error("this is no state of an optimizer");
    if (state[0].cast<std::string>() == "float32")
      restore<float>(*optimizer, state);
    else
      restore<double>(*optimizer, state);
  }
  return optimizer;
}

/// What all rules share: pickle, copy, repr.
template <class R>
void def_common(py::class_<OptimizerOf<R>, AnyOptimizer>& cls, std::vector<std::string> names) {
  cls.def("__repr__", [names](const py::object& self) {
    std::string text = std::string(py::str(py::type::of(self).attr("__name__"))) + "(";
    for (std::size_t i = 0; i < names.size(); ++i)
      text += (i ? ", " : "") + names[i] + "=" + std::string(py::repr(self.attr(names[i].c_str())));
    return text + ")";
  });
  const auto get = [names](const py::object& self) { return get_state<R>(self, names); };
  cls.def(py::pickle(get, &from_state<R>));
  cls.def("__copy__", [get](const py::object& self) { return from_state<R>(get(self)); });
  cls.def(
      "__deepcopy__", [get](const py::object& self, const py::dict&) { return from_state<R>(get(self)); },
      py::arg("memo"));
}

}  // namespace

void register_optimizers(py::module_& module) {
  py::class_<AnyOptimizer>(module, "Optimizer",
                           "How parameters are updated: the settings, and the state of one run.\n\n"
                           "An optimizer belongs to the first network that it steps, until ``reset()``.")
      .def_property_readonly("t", &AnyOptimizer::steps, "Steps taken.")
      .def_property(
          "lr", [](const AnyOptimizer& self) { return learning_rate(self.rule()); },
          [](AnyOptimizer& self, double lr) {
            Rule changed = self.rule();
            set_learning_rate(changed, lr);
            self.set_rule(changed);
          },
          "Learning rate.")
      .def("reset", &AnyOptimizer::reset, "Forget the network, the moments and the steps taken.")
      .def(
          "step",
          [](const py::object& self, const py::object& mlp) {
            if (!py::hasattr(mlp, "_model"))
              throw py::type_error("mlp is of type " + std::string(py::str(py::type::of(mlp).attr("__name__"))) +
                                   "; expected an MLP");
            mlp.attr("_model").attr("apply")(self);
          },
          py::arg("mlp"),
          "Update the parameters of `mlp` once, from the gradient that its last ``backward`` or ``pullback`` left.\n\n"
          "Raises RuntimeError where there is none, and ValueError where the optimizer belongs to another network.");

  py::class_<OptimizerOf<SGD>, AnyOptimizer> sgd(
      module, "SGD",
      "Stochastic gradient descent: b = momentum·b + g; W -= lr·b, or lr·(g + momentum·b) with ``nesterov``.\n\n"
      "``weight_decay``·W is added to g first. Names, defaults and rule are those of ``torch.optim.SGD``. With\n"
      "``velocity`` the rate is part of the sum: b = momentum·b + lr·g; W -= b, or lr·g + momentum·b.");
  sgd.def(py::init([](double lr, double momentum, bool nesterov, double weight_decay, bool velocity) {
            return OptimizerOf<SGD>({lr, momentum, nesterov, weight_decay, velocity});
          }),
          py::arg("lr") = 1e-3, py::arg("momentum") = 0.0, py::arg("nesterov") = false, py::arg("weight_decay") = 0.0,
          py::arg("velocity") = false);
  def_setting(sgd, "momentum", &SGD::momentum);
  def_setting(sgd, "nesterov", &SGD::nesterov);
  def_setting(sgd, "weight_decay", &SGD::weight_decay);
  def_setting(sgd, "velocity", &SGD::velocity);
  def_common(sgd, {"lr", "momentum", "nesterov", "weight_decay", "velocity"});

  py::class_<OptimizerOf<RMSprop>, AnyOptimizer> rmsprop(
      module, "RMSprop",
      "v = alpha·v + (1 - alpha)·g²; b = momentum·b + g / (√v + eps); W -= lr·b. With ``centered`` the variance of g\n"
      "takes the place of v. Names, defaults and rule are those of ``torch.optim.RMSprop``.");
  rmsprop.def(py::init([](double lr, double alpha, double eps, double weight_decay, double momentum, bool centered) {
                return OptimizerOf<RMSprop>({lr, alpha, eps, weight_decay, momentum, centered});
              }),
              py::arg("lr") = 1e-2, py::arg("alpha") = 0.99, py::arg("eps") = 1e-8, py::arg("weight_decay") = 0.0,
              py::arg("momentum") = 0.0, py::arg("centered") = false);
  def_setting(rmsprop, "alpha", &RMSprop::alpha);
  def_setting(rmsprop, "eps", &RMSprop::eps);
  def_setting(rmsprop, "weight_decay", &RMSprop::weight_decay);
  def_setting(rmsprop, "momentum", &RMSprop::momentum);
  def_setting(rmsprop, "centered", &RMSprop::centered);
  def_common(rmsprop, {"lr", "alpha", "eps", "weight_decay", "momentum", "centered"});

  const auto def_adam = [&module]<class R>(const char* name, const R& defaults, const char* doc) {
    py::class_<OptimizerOf<R>, AnyOptimizer> adam(module, name, doc);
    adam.def(py::init([](double lr, std::pair<double, double> betas, double eps, double weight_decay, bool eps_hat) {
               R rule;
               rule.lr = lr;
               std::tie(rule.beta1, rule.beta2) = betas;
               rule.eps = eps;
               rule.weight_decay = weight_decay;
               rule.eps_hat = eps_hat;
               return OptimizerOf<R>(rule);
             }),
             py::arg("lr") = defaults.lr, py::arg("betas") = std::pair(defaults.beta1, defaults.beta2),
             py::arg("eps") = defaults.eps, py::arg("weight_decay") = defaults.weight_decay,
             py::arg("eps_hat") = defaults.eps_hat);
    def_betas(adam);
    adam.def_property(
        "eps", [](const OptimizerOf<R>& self) { return self.settings().eps; },
        [](OptimizerOf<R>& self, double value) {
          R changed = self.settings();
          changed.eps = value;
          self.set_rule(changed);
        });
    adam.def_property(
        "weight_decay", [](const OptimizerOf<R>& self) { return self.settings().weight_decay; },
        [](OptimizerOf<R>& self, double value) {
          R changed = self.settings();
          changed.weight_decay = value;
          self.set_rule(changed);
        });
    adam.def_property(
        "eps_hat", [](const OptimizerOf<R>& self) { return self.settings().eps_hat; },
        [](OptimizerOf<R>& self, bool value) {
          R changed = self.settings();
          changed.eps_hat = value;
          self.set_rule(changed);
        });
    def_common(adam, {"lr", "betas", "eps", "weight_decay", "eps_hat"});
  };
  def_adam("Adam", Adam{},
           "m = β₁·m + (1 - β₁)·g; v = β₂·v + (1 - β₂)·g²; W -= lr·m̂ / (√v̂ + eps), with m̂ = m / (1 - β₁ᵗ) and\n"
           "v̂ = v / (1 - β₂ᵗ) (Kingma & Ba 2015). Names, defaults and rule are those of ``torch.optim.Adam``.\n"
           "With ``eps_hat`` it is W -= lr·√(1 - β₂ᵗ)·m̂ / (√v + eps), the end of their section 2.");
  def_adam("AdamW", AdamW{},
           "Adam with the weight decay apart from the gradient: W -= lr·weight_decay·W first (Loshchilov & Hutter\n"
           "2019). Names, defaults and rule are those of ``torch.optim.AdamW``.");
}

}  // namespace chainrule::bindings
