#include "optimizers.hpp"

#include <pybind11/numpy.h>

#include <bit>
#include <string>
#include <variant>

#include "register.hpp"
#include "settings.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

namespace {

// One Python class for each rule, so that each has the attributes of its own.
template <class R>
struct OptimizerOf : AnyOptimizer {
  explicit OptimizerOf(R rule) : AnyOptimizer(std::move(rule)) {}
  const R& settings() const { return std::get<R>(rule()); }
};

// The classes of Adam's family hold their pair of betas as two fields.
template <class R>
auto betas() {
  return Setting{"betas", [](const R& from) { return std::pair(from.beta1, from.beta2); },
                 [](R& to, std::pair<double, double> betas) { std::tie(to.beta1, to.beta2) = betas; }};
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
    if (moment.is_none()) continue;  // or, of a setting that was changed since the last step, zeros
    const auto values = moment.cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
    if (values.size() != count) throw py::value_error("the state's moments differ in size from its parameters");
    std::copy_n(values.data(), count, mine.make_moment(i));
  }
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

/// A class whose constructor takes the settings in order or by name, with the defaults of R.
template <class R, class... Get, class... Set>
void def_optimizer(py::module_& module, const char* name, const std::string& doc, Setting<Get, Set>... settings) {
  py::class_<OptimizerOf<R>, AnyOptimizer> cls(module, name, (call(name, R{}, settings...) + "\n\n" + doc).c_str());
  cls.def(py::init([=](const py::args& args, const py::kwargs& kwargs) {
    return OptimizerOf<R>(with_settings<R>(name, args, kwargs, settings...));
  }));
  def_signature(cls, R{}, settings...);
  const auto def_setting = [&cls](const auto& setting) {
    cls.def_property(
        setting.name, [setting](const OptimizerOf<R>& self) { return setting.get(self.settings()); },
        [setting](OptimizerOf<R>& self, const py::object& given) {
          R changed = self.settings();
          setting.set(changed, setting_value<decltype(setting.get(changed))>(setting.name, given));
          self.set_rule(changed);
        });
  };
  (def_setting(settings), ...);
  cls.def("__repr__", [=](const OptimizerOf<R>& self) { return call(name, self.settings(), settings...); });

  // (settings, state): all that a pickle holds.
  const auto get = [=](const OptimizerOf<R>& self) {
    py::dict values;
    ((values[settings.name] = settings.get(self.settings())), ...);
    return py::make_tuple(values, self.visit_state([](const auto& state) -> py::object { return moments_of(state); },
                                                   py::object(py::none())));
  };
  cls.def(py::pickle(get, &from_state<R>));
}

// Under the parameters of each.
constexpr const char* raises = R"(
Raises
------
ValueError
    For a setting out of range, in the constructor or when an attribute is set; it then stays as it was.
TypeError
    For a setting of another type, and in the constructor for one that is unknown or given twice.
)";

constexpr const char* sgd_doc = R"(Stochastic gradient descent, with or without momentum.

b = momentum·b + g; W -= lr·b, or lr·(g + momentum·b) with `nesterov`. Names, defaults and rule are those of
``torch.optim.SGD``.

Parameters
----------
lr : float, default 1e-3
    Learning rate; finite and >= 0.
momentum : float, default 0
    Share of the sum b that each step takes over; finite and >= 0.
nesterov : bool, default False
    Whether the step looks ahead along b; needs a momentum > 0.
weight_decay : float, default 0
    λ of an L2 penalty: λ·W is added to g first. Finite and >= 0.
velocity : bool, default False
    Whether the rate is part of the sum: b = momentum·b + lr·g; W -= b, or lr·g + momentum·b with `nesterov`. That
    differs as soon as lr changes.
)";
constexpr const char* sgd_references = R"(
References
----------
Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning. ICML 2013.
)";

constexpr const char* rmsprop_doc = R"(RMSprop: the gradient over the root of its running mean square.

v = alpha·v + (1 - alpha)·g²; b = momentum·b + g / (√v + eps); W -= lr·b. Names, defaults and rule are those of
``torch.optim.RMSprop``.

Parameters
----------
lr : float, default 1e-2
    Learning rate; finite and >= 0.
alpha : float, default 0.99
    Share of v that each step takes over, in [0, 1).
eps : float, default 1e-8
    Added to √v; finite and >= 0.
weight_decay : float, default 0
    λ of an L2 penalty: λ·W is added to g first. Finite and >= 0.
momentum : float, default 0
    Share of the sum b that each step takes over; finite and >= 0.
centered : bool, default False
    Whether the variance v - m², with the running mean m = alpha·m + (1 - alpha)·g, takes the place of v.
)";
constexpr const char* rmsprop_references = R"(
References
----------
Tieleman, Hinton: Lecture 6.5, rmsprop: divide the gradient by a running average of its recent magnitude. Coursera:
Neural Networks for Machine Learning, 2012.
Graves: Generating sequences with recurrent neural networks. arXiv:1308.0850, 2013 (`centered`).
)";

constexpr const char* adam_doc = R"(Adam: running means of the gradient and of its square, each without its bias.

m = β₁·m + (1 - β₁)·g; v = β₂·v + (1 - β₂)·g²; W -= lr·m̂ / (√v̂ + eps), with m̂ = m / (1 - β₁ᵗ) and
v̂ = v / (1 - β₂ᵗ) in step t. Names, defaults and rule are those of ``torch.optim.Adam``.

Parameters
----------
lr : float, default 1e-3
    Learning rate; finite and >= 0.
betas : pair of floats, default (0.9, 0.999)
    β₁ and β₂: shares of m and v that each step takes over, each in [0, 1).
eps : float, default 1e-8
    Added to √v̂; finite and >= 0.
weight_decay : float, default 0
    λ of an L2 penalty: λ·W is added to g first. Finite and >= 0.
eps_hat : bool, default False
    Whether eps is added to √v instead, before its bias is taken out: W -= lr·√(1 - β₂ᵗ)·m̂ / (√v + eps), the end of
    section 2 of the paper.
)";
constexpr const char* adam_references = R"(
References
----------
Kingma, Ba: Adam: a method for stochastic optimization. ICLR 2015.
)";

constexpr const char* adamw_doc = R"(Adam with the weight decay apart from the gradient.

W -= lr·weight_decay·W, and then the step of `Adam` without decay. Names, defaults and rule are those of
``torch.optim.AdamW``.

Parameters
----------
lr : float, default 1e-3
    Learning rate; finite and >= 0.
betas : pair of floats, default (0.9, 0.999)
    β₁ and β₂: shares of m and v that each step takes over, each in [0, 1).
eps : float, default 1e-8
    Added to √v̂; finite and >= 0.
weight_decay : float, default 1e-2
    Share of W, times lr, that each step takes away; finite and >= 0.
eps_hat : bool, default False
    As in `Adam`.
)";
constexpr const char* adamw_references = R"(
References
----------
Loshchilov, Hutter: Decoupled weight decay regularization. ICLR 2019.
)";

}  // namespace

void register_optimizers(py::module_& module) {
  py::class_<AnyOptimizer>(module, "Optimizer",
                           "How parameters are updated: the settings, and the state of one run.\n\n"
                           "An optimizer belongs to the first network that it steps, until ``reset()``.")
      .def_property_readonly("t", &AnyOptimizer::steps, "Steps taken.")
      .def_property_readonly(
          "n_moments",
          [](const AnyOptimizer& self) {
            return std::popcount(std::visit([](const auto& rule) { return rule.moments(); }, self.rule()));
          },
          "How many numbers it keeps for each parameter, with these settings.")
      .def_property(
          "lr", [](const AnyOptimizer& self) { return learning_rate(self.rule()); },
          [](AnyOptimizer& self, const py::object& lr) {
            Rule changed = self.rule();
            set_learning_rate(changed, setting_value<double>("lr", lr));
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

  def_optimizer<SGD>(module, "SGD", std::string(sgd_doc) + raises + sgd_references, setting("lr", &SGD::lr),
                     setting("momentum", &SGD::momentum), setting("nesterov", &SGD::nesterov),
                     setting("weight_decay", &SGD::weight_decay), setting("velocity", &SGD::velocity));
  def_optimizer<RMSprop>(module, "RMSprop", std::string(rmsprop_doc) + raises + rmsprop_references,
                         setting("lr", &RMSprop::lr), setting("alpha", &RMSprop::alpha), setting("eps", &RMSprop::eps),
                         setting("weight_decay", &RMSprop::weight_decay), setting("momentum", &RMSprop::momentum),
                         setting("centered", &RMSprop::centered));
  const auto def_adam = [&module]<class R>(const R&, const char* name, const std::string& doc) {
    def_optimizer<R>(module, name, doc, setting("lr", &R::lr), betas<R>(), setting("eps", &R::eps),
                     setting("weight_decay", &R::weight_decay), setting("eps_hat", &R::eps_hat));
  };
  def_adam(Adam{}, "Adam", std::string(adam_doc) + raises + adam_references);
  def_adam(AdamW{}, "AdamW", std::string(adamw_doc) + raises + adamw_references);
}

}  // namespace chainrule::bindings
