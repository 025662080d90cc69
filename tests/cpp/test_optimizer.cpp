// Rules against the textbook's, their settings, and the state of a run.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "chainrule/backprop.hpp"
#include "chainrule/optimizer.hpp"
#include "support.hpp"

using namespace chainrule;
using support::Draw;
using support::make_problem;
using support::same_bits;

namespace {

template <class T>
ConstVectorView<T> view(const Vector<T>& vector) {
  return {vector.data(), vector.size()};
}

template <class Rule, class Setting>
Rule with(Setting Rule::* setting, Setting value, Rule rule = {}) {
  rule.*setting = value;
  return rule;
}

// A base class's members need their own.
AdamW adamw_with(double Adam::* setting, double value) {
  AdamW rule;
  rule.*setting = value;
  return rule;
}

}  // namespace

TEST_CASE("optimizer: names and defaults are PyTorch's") {
  const std::vector<std::string> expected{"sgd", "rmsprop", "adam", "adamw"};
  CHECK(rule_names() == expected);
  for (const std::string& each : expected) CHECK(name(rule_named(each)) == each);
  CHECK_THROWS_AS(rule_named("adagrad"), std::invalid_argument);
  CHECK_THROWS_WITH(rule_named("adagrad"), doctest::Contains("adamw"));

  const SGD sgd;
  CHECK(sgd.lr == 1e-3);
  CHECK(sgd.momentum == 0);
  CHECK_FALSE(sgd.nesterov);
  CHECK(sgd.weight_decay == 0);
  const RMSprop rms;
  CHECK(rms.lr == 1e-2);
  CHECK(rms.alpha == 0.99);
  CHECK(rms.eps == 1e-8);
  CHECK(rms.weight_decay == 0);
  CHECK(rms.momentum == 0);
  CHECK_FALSE(rms.centered);
  for (const Adam& adam : {Adam{}, static_cast<const Adam&>(AdamW{})}) {
    CHECK(adam.lr == 1e-3);
    CHECK(adam.beta1 == 0.9);
    CHECK(adam.beta2 == 0.999);
    CHECK(adam.eps == 1e-8);
  }
  CHECK(Adam{}.weight_decay == 0);
  CHECK(AdamW{}.weight_decay == 1e-2);
}

TEST_CASE("optimizer: settings out of range") {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  std::vector<Rule> bad;
  for (const double value : {-1e-3, infinity, nan}) {
    for (double SGD::* setting : {&SGD::lr, &SGD::momentum, &SGD::weight_decay}) bad.push_back(with(setting, value));
    for (double RMSprop::* setting :
         {&RMSprop::lr, &RMSprop::alpha, &RMSprop::eps, &RMSprop::weight_decay, &RMSprop::momentum})
      bad.push_back(with(setting, value));
    for (double Adam::* setting : {&Adam::lr, &Adam::beta1, &Adam::beta2, &Adam::eps, &Adam::weight_decay}) {
      bad.push_back(with(setting, value));
      bad.push_back(adamw_with(setting, value));
    }
  }
  bad.push_back(with(&RMSprop::alpha, 1.0));
  for (double Adam::* setting : {&Adam::beta1, &Adam::beta2}) {
    bad.push_back(with(setting, 1.0));
    bad.push_back(adamw_with(setting, 1.0));
  }
  bad.push_back(with(&SGD::nesterov, true));  // without momentum
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i);
    CAPTURE(std::string(name(bad[i])));
    CHECK_THROWS_AS(check(bad[i]), std::invalid_argument);
    CHECK_THROWS_AS(Optimizer<float>{bad[i]}, std::invalid_argument);
  }
  for (const Rule& rule : support::all_rules()) CHECK_NOTHROW(check(rule));
  CHECK_THROWS_WITH(check(with(&Adam::beta2, 1.0)), doctest::Contains("betas[1]"));
}

TEST_CASE_TEMPLATE("optimizer: the learning rate and the rule can be set", T, float, double) {
  Optimizer<T> optimizer(Adam{});
  CHECK(optimizer.lr() == 1e-3);
  optimizer.set_lr(0.5);
  CHECK(optimizer.lr() == 0.5);
  CHECK(learning_rate(optimizer.rule()) == 0.5);
  optimizer.set_lr(0);
  CHECK(optimizer.lr() == 0);
  for (const double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(optimizer.set_lr(bad), std::invalid_argument);
  CHECK(optimizer.lr() == 0);
  optimizer.set_rule(with(&Adam::beta1, 0.5));
  CHECK(std::get<Adam>(optimizer.rule()).beta1 == 0.5);
  CHECK_THROWS_AS(optimizer.set_rule(with(&Adam::beta1, 1.5)), std::invalid_argument);
  CHECK(std::get<Adam>(optimizer.rule()).beta1 == 0.5);
}

TEST_CASE_TEMPLATE("optimizer: with the settings or the kind of its rule changed in mid-run it still steps", T, float,
                   double) {
  for (const Rule& first : support::all_rules())
    for (const Rule& second : support::all_rules()) {
      CAPTURE(std::string(name(first)));
      CAPTURE(std::string(name(second)));
      CAPTURE(first.index());
      Network<T> network(2, {{3, Identity{}}});
      const Vector<T> gradient = Vector<T>::Ones(9);
      Optimizer<T> optimizer(first);
      optimizer.step(network, view(gradient));
      const Vector<T> before = network.parameters();
      optimizer.set_rule(second);
      optimizer.step(network, view(gradient));
      CHECK((network.parameters().array() < before.array()).all());
      CHECK(optimizer.steps() == 2);
    }
}

TEST_CASE_TEMPLATE("optimizer: twenty steps of each rule equal the textbook's", T, float, double) {
  for (const Rule& rule : support::all_rules()) {
    CAPTURE(std::string(name(rule)));
    Network<T> network(11, {{7, Tanh{}}, {3, Identity{}}});
    const Index count = network.parameter_count();
    Draw draw(rule.index());
    network.parameters() = draw.vector<T>(count);
    Eigen::VectorXd exact = network.parameters().template cast<double>();
    std::vector<reference::Moments> moments(static_cast<std::size_t>(count));
    Optimizer<T> optimizer(rule);
    for (std::int64_t t = 1; t <= 20; ++t) {
      const Vector<T> gradient = draw.vector<T>(count);
      optimizer.step(network, view(gradient));
      CHECK(optimizer.steps() == t);
      for (Index i = 0; i < count; ++i)
        reference::update(rule, t, static_cast<double>(gradient[i]), exact[i], moments[static_cast<std::size_t>(i)]);
      // Each step may add a rounding of its own.
      CHECK((network.parameters().template cast<double>() - exact).cwiseAbs().maxCoeff() <=
            4 * static_cast<double>(t) * std::numeric_limits<T>::epsilon());
    }
  }
}

TEST_CASE_TEMPLATE("optimizer: a fused step has the bits of gradient and update apart", T, float, double) {
  for (const Rule& rule : support::all_rules()) {
    CAPTURE(std::string(name(rule)));
    auto problem = make_problem<T>({{19, 37, 5}, 43, true}, {Tanh{}, Identity{}}, MSE{}, 6);
    Network<T> twin(problem.network);
    const Index count = twin.parameter_count();
    Tape<T> tape(problem.network, 43);
    Optimizer<T> fused(rule), apart(rule);
    Vector<T> gradient(count);
    for (int t = 0; t < 5; ++t) {
      step<T>(problem.network, problem.loss, problem.batch(), tape, fused);
      chainrule::gradient<T>(twin, problem.loss, problem.batch(), tape, {gradient.data(), count});
      apart.step(twin, view(gradient));
    }
    CHECK(same_bits(problem.network.parameters(), twin.parameters()));
    for (int i = 0; i < max_moments; ++i) {
      CHECK((fused.moment(i) == nullptr) == (apart.moment(i) == nullptr));
      if (fused.moment(i))
        CHECK(same_bits(ConstVectorView<T>(fused.moment(i), count), ConstVectorView<T>(apart.moment(i), count)));
    }
  }
}

TEST_CASE("optimizer: only the moments that a rule needs are stored") {
  const auto stored = [](const Rule& rule) {
    Network<float> network(2, {{1, Identity{}}});
    Optimizer<float> optimizer(rule);
    CHECK(optimizer.moment(0) == nullptr);
    optimizer.attach(network);
    CHECK(optimizer.parameter_count() == 3);
    return std::array<bool, 3>{optimizer.moment(0) != nullptr, optimizer.moment(1) != nullptr,
                               optimizer.moment(2) != nullptr};
  };
  using Stored = std::array<bool, 3>;
  CHECK((stored(SGD{}) == Stored{false, false, false}));
  CHECK((stored(with(&SGD::momentum, 0.9)) == Stored{true, false, false}));
  CHECK((stored(RMSprop{}) == Stored{true, false, false}));
  CHECK((stored(with(&RMSprop::momentum, 0.9)) == Stored{true, true, false}));
  CHECK((stored(with(&RMSprop::centered, true)) == Stored{true, false, true}));
  CHECK((stored(Adam{}) == Stored{true, true, false}));
  CHECK((stored(AdamW{}) == Stored{true, true, false}));
}

TEST_CASE_TEMPLATE("optimizer: it belongs to the first network that it steps", T, float, double) {
  Network<T> one(2, {{3, Identity{}}}), other(one);
  const Vector<T> gradient = Vector<T>::Ones(9);
  Optimizer<T> optimizer(Adam{});
  optimizer.step(one, view(gradient));
  const Vector<T> before = other.parameters();
  CHECK_THROWS_AS(optimizer.step(other, view(gradient)), std::invalid_argument);
  CHECK_THROWS_AS(optimizer.attach(other), std::invalid_argument);
  CHECK(same_bits(Vector<T>(other.parameters()), before));
  CHECK(optimizer.steps() == 1);
  optimizer.step(one, view(gradient));
  CHECK(optimizer.steps() == 2);

  optimizer.reset();
  CHECK(optimizer.steps() == 0);
  CHECK(optimizer.moment(0) == nullptr);
  CHECK_NOTHROW(optimizer.step(other, view(gradient)));
  CHECK_THROWS_AS(optimizer.step(one, view(gradient)), std::invalid_argument);
}

TEST_CASE_TEMPLATE("optimizer: reset starts anew", T, float, double) {
  for (const Rule& rule : support::all_rules()) {
    CAPTURE(std::string(name(rule)));
    Network<T> network(4, {{3, Identity{}}}), twin(network);
    Draw draw(3);
    const Vector<T> gradient = draw.vector<T>(15);
    Optimizer<T> used(rule), fresh(rule);
    used.step(network, view(gradient));
    used.reset();
    network.parameters().setZero();
    used.step(network, view(gradient));
    fresh.step(twin, view(gradient));
    CHECK(same_bits(network.parameters(), twin.parameters()));
  }
}

TEST_CASE_TEMPLATE("optimizer: a gradient of another size", T, float, double) {
  Network<T> network(2, {{3, Identity{}}});
  Optimizer<T> optimizer(SGD{});
  CHECK_THROWS_AS(optimizer.step(network, view(Vector<T>(Vector<T>::Ones(8)))), std::invalid_argument);
  CHECK_THROWS_AS(optimizer.step(network, view(Vector<T>(Vector<T>::Ones(10)))), std::invalid_argument);
  CHECK((network.parameters().array() == 0).all());
  CHECK(optimizer.steps() == 0);
}

TEST_CASE_TEMPLATE("optimizer: a state that was put back goes on with the same bits", T, float, double) {
  for (const Rule& rule : support::all_rules()) {
    CAPTURE(std::string(name(rule)));
    Network<T> network(4, {{5, Identity{}}});
    const Index count = network.parameter_count();
    Draw draw(4);
    Optimizer<T> first(rule);
    for (int t = 0; t < 3; ++t) first.step(network, view(draw.vector<T>(count)));

    Network<T> twin(network);
    Optimizer<T> second(rule);
    second.restore(first.steps(), first.parameter_count());
    CHECK(second.steps() == 3);
    for (int i = 0; i < max_moments; ++i) {
      CHECK((first.moment(i) == nullptr) == (second.moment(i) == nullptr));
      if (first.moment(i)) std::copy_n(first.moment(i), count, second.moment(i));
    }
    const Vector<T> gradient = draw.vector<T>(count);
    first.step(network, view(gradient));
    second.step(twin, view(gradient));
    CHECK(same_bits(network.parameters(), twin.parameters()));
    CHECK(second.steps() == 4);
  }
  Network<T> small(1, {{1, Identity{}}}), right(4, {{5, Identity{}}});
  Optimizer<T> optimizer(Adam{});
  optimizer.restore(3, 25);
  CHECK_THROWS_AS(optimizer.attach(small), std::invalid_argument);
  CHECK_NOTHROW(optimizer.attach(right));
}

TEST_CASE_TEMPLATE("optimizer: a copy has a state of its own", T, float, double) {
  Network<T> network(4, {{5, Identity{}}});
  const Index count = network.parameter_count();
  Draw draw(5);
  Optimizer<T> optimizer(Adam{});
  optimizer.step(network, view(draw.vector<T>(count)));
  const Vector<T> gradient = draw.vector<T>(count), start = network.parameters();
  Optimizer<T> copy(optimizer);
  copy.step(network, view(gradient));
  const Vector<T> by_copy = network.parameters();
  CHECK(optimizer.steps() == 1);
  network.parameters() = start;
  optimizer.step(network, view(gradient));
  CHECK(same_bits(Vector<T>(network.parameters()), by_copy));
}

TEST_CASE_TEMPLATE("optimizer: the variance of a constant gradient is no less than zero", T, float, double) {
  Network<T> network(2, {{2, Identity{}}});
  RMSprop rule;
  rule.alpha = 0.9;
  rule.centered = true;
  Optimizer<T> optimizer(rule);
  const Vector<T> gradient = Vector<T>::Constant(network.parameter_count(), T(0.3));
  for (int i = 0; i < 1000; ++i) optimizer.step(network, {gradient.data(), gradient.size()});
  CHECK(network.parameters().allFinite());
}
