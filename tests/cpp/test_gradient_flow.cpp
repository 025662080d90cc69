// The gradient-flow report.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "chainrule/gradient_flow.hpp"
#include "chainrule/init.hpp"
#include "support.hpp"

using namespace chainrule;
using support::make_problem;

TEST_CASE_TEMPLATE("gradient flow: figures of each parameter and layer", T, float, double) {
  auto problem = make_problem<T>({{5, 9, 7, 6, 2}, 12}, {Tanh{}, ReLU{}, SiLU{}, Sigmoid{}}, BCE{}, 1);
  const Network<T>& network = problem.network;
  const Index count = network.parameter_count();
  Tape<T> tape(network, 12);
  Vector<T> g(count);
  gradient<T>(network, problem.loss, problem.batch(), tape, {g.data(), count});
  const GradientFlowReport flow = gradient_flow<T>(network, tape, {g.data(), count});
  REQUIRE(flow.parameters.size() == 8);
  REQUIRE(flow.layers.size() == 4);
  for (Index l = 1; l <= 4; ++l) {
    CAPTURE(l);
    const auto at = static_cast<std::size_t>(l - 1);
    const Eigen::VectorXd weight = g.segment(network.offset(l), network.weight(l).size()).template cast<double>();
    const Eigen::VectorXd bias = g.segment(network.bias_offset(l), network.units(l)).template cast<double>();
    const ParameterFlow &of_weight = flow.parameters[2 * at], &of_bias = flow.parameters[2 * at + 1];
    // Sums are in the network's own precision.
    const auto near = [](double value) { return doctest::Approx(value).epsilon(support::tolerance<T>); };
    CHECK(of_weight.mean_abs == near(weight.cwiseAbs().mean()));
    CHECK(of_bias.mean_abs == near(bias.cwiseAbs().mean()));
    CHECK(of_weight.norm == near(weight.norm()));
    CHECK(of_bias.norm == near(bias.norm()));
    CHECK(of_weight.zeros == static_cast<double>((weight.array() == 0).count()) / static_cast<double>(weight.size()));
    CHECK_FALSE(of_weight.update_ratio.has_value());
    CHECK(of_weight.max_abs == weight.cwiseAbs().maxCoeff());
    CHECK(of_bias.max_abs == bias.cwiseAbs().maxCoeff());
    CHECK(of_weight.nan + of_weight.inf + of_bias.nan + of_bias.inf == 0);
    const LayerFlow& of_layer = flow.layers[at];
    CHECK(of_layer.delta_norm == near(tape.delta(l).template cast<double>().norm()));
    const Eigen::ArrayXXd a = tape.activation(l).template cast<double>();
    CHECK(of_layer.activation_mean == near(a.mean()));
    CHECK(of_layer.activation_variance == near((a - a.mean()).square().mean()));
    CHECK(of_layer.saturated.has_value() == (l == 1 || l == 4));
    CHECK(of_layer.dead.has_value() == (l == 2));
  }
}

TEST_CASE_TEMPLATE("gradient flow: NaN and infinities are counted, and left out of the mean", T, float, double) {
  const Network<T> network(2, {{2, Identity{}}});
  Tape<T> tape(network, 1);
  tape.set_rows(1);
  const T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  Vector<T> g(6);
  g << 1, nan, -3, -infinity, nan, nan;
  const GradientFlowReport flow = gradient_flow<T>(network, tape, {g.data(), 6});
  CHECK(flow.parameters[0].mean_abs == 2);
  CHECK(flow.parameters[0].max_abs == 3);
  CHECK(flow.parameters[0].nan == 1);
  CHECK(flow.parameters[0].inf == 1);
  CHECK(std::isnan(flow.parameters[1].mean_abs));
  CHECK(std::isnan(flow.parameters[1].max_abs));
  CHECK(flow.parameters[1].nan == 2);
  CHECK(flow.parameters[1].inf == 0);
}

TEST_CASE_TEMPLATE("gradient flow: squares beyond the range of the numbers do not matter", T, float, double) {
  const Network<T> network(2, {{2, Identity{}}});
  Tape<T> tape(network, 1);
  tape.set_rows(1);
  for (const T size : {std::numeric_limits<T>::max() / 8, std::numeric_limits<T>::min() * 4}) {
    const Vector<T> g = Vector<T>::Constant(6, size);
    const GradientFlowReport flow = gradient_flow<T>(network, tape, {g.data(), 6});
    CHECK(flow.parameters[0].norm == doctest::Approx(2 * static_cast<double>(size)));
    CHECK(flow.parameters[0].mean_abs == doctest::Approx(static_cast<double>(size)));
    CHECK(flow.parameters[0].nan + flow.parameters[0].inf == 0);
  }
  const T small = std::sqrt(std::numeric_limits<T>::min());
  Tape<T> many(network, 500);
  many.set_rows(500);
  many.delta(1).setConstant(small / 2);  // squares below the range, and one within
  many.delta(1)(7, 1) = 2 * small;
  const Vector<T> g = Vector<T>::Zero(6);
  CHECK(gradient_flow<T>(network, many, {g.data(), 6}).layers[0].delta_norm ==
        doctest::Approx(std::sqrt(999.0 / 4 + 4) * static_cast<double>(small)));
}

TEST_CASE_TEMPLATE("gradient flow: a recorder keeps what each step would report, and the size of its update", T, float,
                   double) {
  auto problem = make_problem<T>({{5, 40, 9, 2}, 30}, {Tanh{}, ReLU{}, Identity{}}, MSE{}, 5);
  auto twin = make_problem<T>({{5, 40, 9, 2}, 30}, {Tanh{}, ReLU{}, Identity{}}, MSE{}, 5);
  FitOptions options;
  options.epochs = 3;
  options.batch_size = 10;
  options.shuffle = false;
  FlowRecord record(2);
  FlowRecorder<T> recorder(record, problem.network);
  Optimizer<T> optimizer(SGD{0.1}), by_hand(SGD{0.1});
  fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder});
  CHECK(record.steps == 9);
  CHECK(record.recorded == std::vector<Index>{2, 4, 6, 8});
  REQUIRE(record.flows.size() == 4);
  REQUIRE(record.histograms.size() == 3);
  const ActivationHistogram& outputs = record.histograms[2];
  Index total = 0;
  for (const Index count : outputs.counts) total += count;
  CHECK(total == 20);
  CHECK(outputs.low < outputs.high);

  const Index count = twin.network.parameter_count();
  Tape<T> tape(twin.network, 10);
  Vector<T> g(count);
  for (Index i = 0; i < 9; ++i) {
    const Batch<T> batch{twin.samples().from(i % 3 * 10), 10};
    gradient<T>(twin.network, twin.loss, batch, tape, {g.data(), count});
    const Eigen::VectorXd before = twin.network.weight(1).reshaped().template cast<double>();
    by_hand.step(twin.network, {g.data(), count});
    if (i % 2 == 0) continue;
    const GradientFlowReport flow = gradient_flow<T>(twin.network, tape, {g.data(), count});
    const ParameterFlow& recorded = record.flows[static_cast<std::size_t>(i / 2)].parameters[0];
    CHECK(recorded.norm == doctest::Approx(flow.parameters[0].norm).epsilon(1e-4));
    const Eigen::VectorXd update = twin.network.weight(1).reshaped().template cast<double>() - before;
    CHECK(recorded.update_ratio.value() == doctest::Approx(update.norm() / before.norm()).epsilon(1e-3));
  }
}

TEST_CASE_TEMPLATE("gradient flow: shares of saturated and dead units", T, float, double) {
  const Network<T> network(1, {{4, Sigmoid{}}, {4, Tanh{}}, {4, ReLU{}}});
  Tape<T> tape(network, 2);
  tape.set_rows(2);
  tape.activation(1) << T(0.005), T(0.02), T(0.5), T(0.995), T(0.98), T(0.3), 0, 1;
  tape.activation(2) << T(-0.99), T(-0.97), 0, T(0.99), T(0.97), T(0.5), T(0.1), T(-0.1);
  tape.activation(3) << 0, 0, 1, 0, 0, 2, 1, 0;
  const Vector<T> g = Vector<T>::Zero(network.parameter_count());
  const GradientFlowReport flow = gradient_flow<T>(network, tape, {g.data(), g.size()});
  CHECK(flow.layers[0].saturated.value() == 4.0 / 8);
  CHECK(flow.layers[1].saturated.value() == 2.0 / 8);
  CHECK(flow.layers[2].dead.value() == 2.0 / 4);
  CHECK_FALSE(flow.layers[0].dead.has_value());
  CHECK_FALSE(flow.layers[2].saturated.has_value());
}

TEST_CASE_TEMPLATE("gradient flow: gradients vanish towards the input of a deep sigmoid network, not of a ReLU one", T,
                   float, double) {
  const auto ratio = [](const Activation& hidden) {
    std::vector<Layer> layers(6, {32, hidden});
    layers.push_back({1, Sigmoid{}});
    Network<T> network(10, layers);
    initialise(network, 1);
    support::Draw draw(2);
    const auto X = draw.matrix<T>(64, 10);
    Matrix<T> y = (X.col(0).array() > 0).template cast<T>();
    const Samples<T> samples{{X.data(), 64, 10, Eigen::OuterStride<>(10)}, Targets<T>(y)};
    Tape<T> tape(network, 64);
    Vector<T> g(network.parameter_count());
    gradient<T>(network, BCE{}, {samples, 64}, tape, {g.data(), g.size()});
    const GradientFlowReport flow = gradient_flow<T>(network, tape, {g.data(), g.size()});
    return flow.parameters[0].mean_abs / flow.parameters[12].mean_abs;
  };
  CHECK(ratio(Sigmoid{}) < 1e-3);
  CHECK(ratio(ReLU{}) > 1e-2);
}

TEST_CASE_TEMPLATE("gradient flow: the output of a loss from the logits, and the parts of a batch, are not left out", T,
                   float, double) {
  const auto problem = make_problem<T>({{5, 40, 9, 3}, 30}, {Tanh{}, ReLU{}, Softmax{}}, CrossEntropy{}, 5);
  const auto flow_with = [&](std::optional<Index> micro_batch) {
    Network<T> network(problem.network);
    Optimizer<T> optimizer(SGD{0.0});
    FitOptions options;
    options.batch_size = 30;
    options.shuffle = false;
    options.micro_batch = micro_batch;
    FlowRecord record(1);
    FlowRecorder<T> recorder(record, network);
    fit<T>(network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder});
    CHECK(record.flows.at(0).rows == 30);
    return record.flows.at(0).layers;
  };
  const std::vector<LayerFlow> whole = flow_with({});
  CHECK(whole[2].activation_mean == doctest::Approx(1.0 / 3));
  const Matrix<T> a = support::outputs(problem.network, problem.X);
  CHECK(whole[2].activation_variance ==
        doctest::Approx(static_cast<double>((a.array() - T(1) / 3).square().mean())).epsilon(1e-4));
  for (const Index rows : {1, 7, 29}) {
    CAPTURE(rows);
    const std::vector<LayerFlow> parts = flow_with(rows);
    for (std::size_t l = 0; l < whole.size(); ++l) {
      CHECK(parts[l].activation_mean == doctest::Approx(whole[l].activation_mean).epsilon(1e-4));
      CHECK(parts[l].activation_variance == doctest::Approx(whole[l].activation_variance).epsilon(1e-4));
      CHECK(parts[l].delta_norm == doctest::Approx(whole[l].delta_norm).epsilon(1e-4));
      CHECK(parts[l].dead == whole[l].dead);
      CHECK(parts[l].saturated == whole[l].saturated);
    }
  }
}

TEST_CASE_TEMPLATE("gradient flow: a variance is right far from zero, and not a number where there is one", T, float,
                   double) {
  const Network<T> network(1, {{5, Identity{}}});
  Tape<T> tape(network, 40);
  tape.set_rows(40);
  support::Draw draw(3);
  const Matrix<T> around = draw.matrix<T>(40, 5);
  tape.activation(1) = around.array() + T(1 << 12);
  const Eigen::ArrayXXd a = tape.activation(1).template cast<double>();
  const Vector<T> g = Vector<T>::Zero(network.parameter_count());
  const auto layer = [&] { return gradient_flow<T>(network, tape, {g.data(), g.size()}).layers[0]; };
  CHECK(layer().activation_mean == doctest::Approx(a.mean()));
  CHECK(layer().activation_variance == doctest::Approx((a - a.mean()).square().mean()).epsilon(1e-4));
  tape.activation(1)(7, 2) = std::numeric_limits<T>::quiet_NaN();
  CHECK(std::isnan(layer().activation_variance));
}

TEST_CASE_TEMPLATE("gradient flow: steps that are left out count, and are recorded with what they hold", T, float,
                   double) {
  auto problem = make_problem<T>({{3, 4, 1}, 12}, {Tanh{}, Identity{}}, MSE{}, 5);
  problem.y(5, 0) = std::numeric_limits<T>::infinity();
  FitOptions options;
  options.epochs = 2;
  options.batch_size = 4;
  options.shuffle = false;
  options.on_non_finite = OnNonFinite::ignore;
  FlowRecord record(1);
  for (int fits = 0; fits < 2; ++fits) {
    FlowRecorder<T> recorder(record, problem.network);
    Optimizer<T> optimizer(SGD{0.1});
    fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder});
  }
  CHECK(record.steps == 12);
  REQUIRE(record.recorded.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) {
    CAPTURE(i);
    CHECK(record.recorded[i] == static_cast<Index>(i) + 1);
    const ParameterFlow& weight = record.flows[i].parameters[0];
    CHECK((weight.nan + weight.inf > 0) == (i % 3 == 1));
    CHECK(weight.update_ratio.has_value() == (i % 3 != 1));
  }
  options.on_non_finite = OnNonFinite::raise;
  FlowRecorder<T> recorder(record, problem.network);
  Optimizer<T> optimizer(SGD{0.1});
  CHECK_THROWS_AS(fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder}),
                  NonFiniteError);
  CHECK(record.recorded.back() == 14);
  CHECK(record.flows.back().parameters[0].nan + record.flows.back().parameters[0].inf > 0);
  CHECK(record.histograms.size() == 2);
}

TEST_CASE_TEMPLATE("gradient flow: the gradient of a step that is left out has the penalty's, however it was tried", T,
                   float, double) {
  auto problem = make_problem<T>({{3, 4, 1}, 4}, {Tanh{}, Identity{}}, MSE{}, 5);
  problem.network.weight_and_bias(1).setZero();                         // a_1 = 0
  problem.y.setConstant(std::sqrt(std::numeric_limits<T>::max()) * 4);  // the loss overflows, and no gradient does
  FitOptions options;
  options.epochs = 1;
  options.batch_size = 4;
  options.objective.l2 = 10;
  options.on_non_finite = OnNonFinite::ignore;
  for (const auto clip_norm : {std::optional<double>(), std::optional<double>(1)}) {
    options.clip_norm = clip_norm;
    FlowRecord record(1);
    FlowRecorder<T> recorder(record, problem.network);
    Optimizer<T> optimizer(SGD{0.1});
    fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder});
    REQUIRE(record.flows.size() == 1);
    CHECK(record.flows[0].parameters[2].norm ==
          doctest::Approx(10.0 / 4 * static_cast<double>(problem.network.weight(2).norm())).epsilon(1e-5));
  }
}

TEST_CASE("gradient flow: the last step of each epoch, of blocks that nobody knows the number of") {
  struct Blocks : Source<double> {
    Samples<double> block;
    int given = 0;
    explicit Blocks(const Samples<double>& block) : block(block) {}
    Index rows() const override { return 0; }
    const Samples<double>* next() override { return given++ % 4 < 3 ? &block : nullptr; }
  };
  auto problem = make_problem<double>({{3, 4, 1}, 12}, {Tanh{}, Identity{}}, MSE{}, 5);
  Blocks source(problem.samples());
  Optimizer<double> optimizer(SGD{0.1});
  FitOptions options;
  options.epochs = 2;
  options.batch_size = 6;
  FlowRecord record({});
  FlowRecorder<double> recorder(record, problem.network);
  fit<double>(problem.network, problem.loss, source, nullptr, optimizer, options, {&recorder});
  CHECK(record.steps == 12);
  CHECK(record.recorded == std::vector<Index>{6, 12});
  CHECK(record.flows.size() == 2);
}

TEST_CASE("gradient flow: a record of no steps, or of another network") {
  CHECK_THROWS_AS(FlowRecord(0), std::invalid_argument);
  auto problem = make_problem<double>({{3, 4, 1}, 12}, {Tanh{}, Identity{}}, MSE{}, 5);
  const Network<double> other(3, {{5, Tanh{}}, {1, Identity{}}});
  FlowRecord record(1);
  FlowRecorder<double> recorder(record, other);
  Optimizer<double> optimizer(SGD{0.1});
  CHECK_THROWS_AS(fit<double>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, {}, {&recorder}),
                  std::invalid_argument);
}

TEST_CASE("gradient flow: a tape or a gradient of another network") {
  auto problem = make_problem<double>({{3, 4, 1}, 12}, {Tanh{}, Identity{}}, MSE{}, 5);
  const Network<double> other(3, {{5, Tanh{}}, {1, Identity{}}});
  Tape<double> mine(problem.network, 12), others(other, 12);
  const Vector<double> gradient = Vector<double>::Zero(problem.network.parameter_count());
  CHECK_THROWS_AS(gradient_flow<double>(problem.network, others, {gradient.data(), gradient.size()}),
                  std::invalid_argument);
  CHECK_THROWS_AS(gradient_flow<double>(problem.network, mine, {gradient.data(), gradient.size()}),
                  std::invalid_argument);  // nothing has gone forward
  mine.set_rows(12);
  CHECK_THROWS_AS(gradient_flow<double>(problem.network, mine, {gradient.data(), 2}), std::invalid_argument);
  CHECK_THROWS_AS(activation_histograms<double>(problem.network, others), std::invalid_argument);
}
