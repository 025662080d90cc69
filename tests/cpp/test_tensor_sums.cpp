// What a step adds up on its way.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "chainrule/gradient_flow.hpp"
#include "chainrule/threads.hpp"
#include "support.hpp"

using namespace chainrule;
using support::KeepThreads;
using support::make_problem;
using support::Problem;
using support::same_bits;

namespace {

template <class T>
doctest::Approx near(double value) {
  return doctest::Approx(value).epsilon(4 * support::tolerance<T>);
}

/// The sums of W_1, b_1, W_2, … and the network after a step.
template <class T>
struct Step {
  Network<T> network;
  std::vector<TensorSums> sums;
};

template <class T>
Step<T> watched_step(const Problem<T>& problem, const Rule& rule, const Objective& objective = {}) {
  Step<T> done{problem.network, {}};
  Tape<T> tape(done.network, problem.X.rows());
  Optimizer<T> optimizer(rule);
  step<T>(done.network, problem.loss, problem.batch(), tape, optimizer, objective, &done.sums);
  return done;
}

/// Whether the sums are those of the gradient of all, and of what the step made of the parameters.
template <class T>
void check_sums(const Problem<T>& problem, const Step<T>& done, const Objective& objective = {}) {
  const Network<T>& network = problem.network;
  Tape<T> tape(network, problem.X.rows());
  Vector<T> all(network.parameter_count());
  gradient<T>(network, problem.loss, problem.batch(), tape, {all.data(), all.size()}, objective);
  REQUIRE(done.sums.size() == static_cast<std::size_t>(2 * network.depth()));
  for (Index i = 0; i < 2 * network.depth(); ++i) {
    CAPTURE(i);
    const Index l = i / 2 + 1;
    const Index offset = i % 2 ? network.bias_offset(l) : network.offset(l);
    const Index size = i % 2 ? network.units(l) : network.weight(l).size();
    const auto of = [&](const auto& vector) {
      return Eigen::VectorXd(vector.segment(offset, size).template cast<double>());
    };
    const Eigen::VectorXd g = of(all), before = of(network.parameters()), after = of(done.network.parameters());
    const TensorSums& sums = done.sums[static_cast<std::size_t>(i)];
    CHECK(sums.gradient.absolute == near<T>(g.cwiseAbs().sum()));
    CHECK(std::hypot(std::sqrt(sums.gradient.squares), sums.gradient.far_norm) == near<T>(g.stableNorm()));
    CHECK(sums.gradient.largest == near<T>(g.cwiseAbs().maxCoeff()));
    CHECK(sums.gradient.zeros == (g.array() == 0).count());
    CHECK(sums.gradient.nan + sums.gradient.inf == 0);
    CHECK(sums.theta_squares == near<T>(before.squaredNorm()));
    CHECK(sums.change_squares == doctest::Approx((after - before).squaredNorm()).epsilon(64 * support::tolerance<T>));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("tensor sums: a step tells those of its gradient and update, and looking changes no bit", T, float,
                   double) {
  for (const auto& units : {std::vector<Index>{3, 5, 4, 2}, std::vector<Index>{40, 70, 33, 1}})
    for (const Rule& rule : support::all_rules()) {
      CAPTURE(std::string(name(rule)));
      const auto problem = make_problem<T>({units, 37, true}, {Tanh{}, ReLU{}, Identity{}}, MSE{}, 4);
      const Step<T> done = watched_step(problem, rule);
      check_sums(problem, done);
      Network<T> plain(problem.network);
      Tape<T> tape(plain, 37);
      Optimizer<T> optimizer(rule);
      step<T>(plain, problem.loss, problem.batch(), tape, optimizer);
      CHECK(same_bits(Vector<T>(plain.parameters()), Vector<T>(done.network.parameters())));
    }
}

TEST_CASE_TEMPLATE("tensor sums: with a penalty they are those of the objective", T, float, double) {
  const auto problem = make_problem<T>({{6, 40, 3}, 20}, {Tanh{}, Identity{}}, MSE{}, 5);
  for (const Objective& objective : {Objective{2, 0}, Objective{1, 3}, Objective{0.5, 1e-3}})
    check_sums(problem, watched_step(problem, Adam{}, objective), objective);
}

TEST_CASE_TEMPLATE("tensor sums: gradients whose squares are beyond the range of numbers", T, float, double) {
  const auto problem = make_problem<T>({{6, 40, 3}, 20}, {Tanh{}, Identity{}}, MSE{}, 6);
  const double far = std::is_same_v<T, float> ? 1e22 : 1e160;
  for (const double scale : {far, 1 / far}) {
    CAPTURE(scale);
    // Sums in T would be zero or infinite.
    check_sums(problem, watched_step(problem, SGD{1e-3 / scale}, {.loss_weight = scale}), {.loss_weight = scale});
  }
}

TEST_CASE_TEMPLATE("tensor sums: of a sparse batch", T, float, double) {
  auto problem = make_problem<T>({{400, 20, 3}, 30}, {Tanh{}, Identity{}}, MSE{}, 9);
  std::vector<T> values;
  std::vector<std::int32_t> columns;
  std::vector<Index> starts{0};
  for (Index r = 0; r < 30; ++r) {
    for (Index c = 0; c < 400; ++c) {
      if ((r * 7 + c) % 97 != 0) problem.X(r, c) = 0;
      if (problem.X(r, c) == 0) continue;
      values.push_back(problem.X(r, c));
      columns.push_back(static_cast<std::int32_t>(c));
    }
    starts.push_back(static_cast<Index>(values.size()));
  }
  const SparseRows<T> rows{values.data(), columns.data(), starts.data(), 30, 400};
  const Batch<T> batch{{rows, problem.targets()}, 30};
  REQUIRE(batch.samples.X.mostly_zeros());
  Step<T> done{problem.network, {}};
  Tape<T> tape(done.network, 30, {.inputs = false});
  Optimizer<T> optimizer(SGD{0.1, 0.9});
  step<T>(done.network, problem.loss, batch, tape, optimizer, {}, &done.sums);
  check_sums(problem, done);
}

TEST_CASE_TEMPLATE("tensor sums: the same bits for 1, 2, 3 and 8 threads", T, float, double) {
  const KeepThreads keep;
  const auto problem = make_problem<T>({{70, 300, 90, 10}, 150}, {SiLU{}, ReLU{}, Identity{}}, CrossEntropy{}, 7);
  const auto flow_with = [&](int threads) {
    set_num_threads(threads);
    Network<T> network(problem.network);
    Optimizer<T> optimizer(Adam{});
    FlowRecord record(1);
    FlowRecorder<T> recorder(record, network);
    FitOptions options;
    options.epochs = 2;
    options.batch_size = 60;
    fit<T>(network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder});
    return record.flows;
  };
  const std::vector<GradientFlowReport> one = flow_with(1);
  REQUIRE(one.size() == 6);
  for (const int threads : {2, 3, 8}) {
    CAPTURE(threads);
    const std::vector<GradientFlowReport> several = flow_with(threads);
    REQUIRE(several.size() == one.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
      for (std::size_t p = 0; p < one[i].parameters.size(); ++p) {
        const ParameterFlow &a = one[i].parameters[p], &b = several[i].parameters[p];
        CHECK(a.mean_abs == b.mean_abs);
        CHECK(a.max_abs == b.max_abs);
        CHECK(a.norm == b.norm);
        CHECK(a.update_ratio.value() == b.update_ratio.value());
        CHECK(a.zeros == b.zeros);
      }
      for (std::size_t l = 0; l < one[i].layers.size(); ++l) {
        const LayerFlow &a = one[i].layers[l], &b = several[i].layers[l];
        CHECK(a.activation_mean == b.activation_mean);
        CHECK(a.activation_variance == b.activation_variance);
        CHECK(a.delta_norm == b.delta_norm);
      }
    }
  }
}

TEST_CASE_TEMPLATE("tensor sums: with clipping, of the gradient before it and of the update after it", T, float,
                   double) {
  const auto problem = make_problem<T>({{6, 40, 3}, 20}, {Tanh{}, Identity{}}, MSE{}, 8);
  const auto flow_with = [&](std::optional<double> clip_norm) {
    Network<T> network(problem.network);
    Optimizer<T> optimizer(SGD{0.1});
    FlowRecord record(1);
    FlowRecorder<T> recorder(record, network);
    FitOptions options;
    options.batch_size = 20;
    options.shuffle = false;
    options.clip_norm = clip_norm;
    fit<T>(network, problem.loss, problem.samples(), nullptr, optimizer, options, {&recorder});
    return record.flows.at(0).parameters;
  };
  const auto free = flow_with(std::nullopt), loose = flow_with(1e6), tight = flow_with(1e-3);
  double squares = 0;
  for (const ParameterFlow& of : free) squares += of.norm * of.norm;
  for (std::size_t p = 0; p < free.size(); ++p) {
    CAPTURE(p);
    CHECK(loose[p].norm == near<T>(free[p].norm));
    CHECK(tight[p].norm == near<T>(free[p].norm));
    if (!free[p].update_ratio) continue;  // of biases that start at zero
    CHECK(loose[p].update_ratio.value() == near<T>(*free[p].update_ratio));
    CHECK(tight[p].update_ratio.value() ==
          doctest::Approx(*free[p].update_ratio * 1e-3 / std::sqrt(squares)).epsilon(1e-2));
  }
}
