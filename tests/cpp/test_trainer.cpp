// The training loop: batches, losses, clipping, schedules, and what it leaves behind when it fails.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <vector>

#include "chainrule/predict.hpp"
#include "training.hpp"

using namespace chainrule;
using support::same_bits;
using namespace training;

TEST_CASE_TEMPLATE("trainer: an epoch is a step on each batch, the last one short", T, float, double) {
  for (const Index rows : {8, 9, 10, 11, 3}) {
    CAPTURE(rows);
    auto problem = sample<T>(rows), twin = sample<T>(rows);
    Optimizer<T> optimizer(Adam{}), by_hand(Adam{});
    const History history = fit(problem, optimizer, in_order(2));
    std::vector<Index> firsts;
    for (int epoch = 0; epoch < 2; ++epoch)
      for (Index first = 0; first < rows; first += 4) firsts.push_back(first);
    steps_by_hand(twin, by_hand, firsts, 4);
    CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
    CHECK(optimizer.steps() == static_cast<std::int64_t>(firsts.size()));
    CHECK(history.epochs == 2);
    CHECK(history.loss.size() == 2);
    CHECK(history.validation_loss.empty());
    CHECK_FALSE(history.best_epoch.has_value());
    CHECK_FALSE(history.stopped_early);
  }
}

TEST_CASE_TEMPLATE("trainer: the loss of an epoch is the mean over its samples", T, float, double) {
  for (const bool weighted : {false, true}) {
    auto problem = sample<T>(10, weighted);
    // With lr = 0 nothing moves: the mean over the batches is the loss over all.
    Optimizer<T> optimizer(SGD{0.0});
    const double loss = evaluate<T>(problem.network, problem.loss, problem.samples());
    const History history = fit(problem, optimizer, in_order());
    CHECK(history.loss[0] == doctest::Approx(loss).epsilon(16 * std::numeric_limits<T>::epsilon()));
  }
}

TEST_CASE_TEMPLATE("trainer: a batch larger than the data is all of it", T, float, double) {
  auto problem = sample<T>(), twin = sample<T>();
  Optimizer<T> optimizer(SGD{0.1}), by_hand(SGD{0.1});
  FitOptions options = in_order();
  options.batch_size = std::numeric_limits<Index>::max();
  fit(problem, optimizer, options);
  steps_by_hand(twin, by_hand, {0}, 10);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
}

TEST_CASE_TEMPLATE("trainer: batches without weight are skipped", T, float, double) {
  auto problem = sample<T>(12, true), twin = sample<T>(12, true);
  for (auto* each : {&problem, &twin}) {
    each->weight.setConstant(T(0.5));
    each->weight.segment(4, 4).setZero();
  }
  Optimizer<T> optimizer(Adam{}), by_hand(Adam{});
  Callbacks<T> callbacks;
  std::vector<Index> steps;
  callbacks.on_step = [&](FitState<T>& state) { steps.push_back(state.step); };
  const History history = fit(problem, optimizer, in_order(), {&callbacks});
  steps_by_hand(twin, by_hand, {0, 8}, 4);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
  CHECK(optimizer.steps() == 2);
  CHECK(steps == std::vector<Index>{1, 3});
  CHECK(std::isfinite(history.loss[0]));
}

TEST_CASE_TEMPLATE("trainer: shuffled, every sample comes once an epoch, in another order each time", T, float,
                   double) {
  auto problem = sample<T>(30);
  for (Index i = 0; i < 30; ++i) problem.X(i, 0) = static_cast<T>(i);
  FitOptions options;
  options.epochs = 3;
  options.batch_size = 7;
  const auto orders = [&](std::uint64_t seed, Index epochs_before) {
    options.seed = seed;
    options.epochs_before = epochs_before;
    std::vector<std::vector<T>> seen(3);
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) {
      for (Index i = 0; i < state.tape->rows(); ++i)
        seen[static_cast<std::size_t>(state.epoch - 1)].push_back(state.tape->activation(0)(i, 0));
    };
    Optimizer<T> optimizer(SGD{0.0});
    fit(problem, optimizer, options, {&callbacks});
    return seen;
  };
  const auto seen = orders(1, 0);
  std::vector<T> all(30);
  for (std::size_t i = 0; i < 30; ++i) all[i] = static_cast<T>(i);
  for (const auto& order : seen) {
    CHECK(order != all);
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == all);
  }
  CHECK(seen[0] != seen[1]);
  CHECK(seen[1] != seen[2]);
  CHECK(orders(1, 0) == seen);
  CHECK(orders(2, 0) != seen);
  CHECK(orders(1, 1)[0] == seen[1]);
}

TEST_CASE_TEMPLATE("trainer: N fits of one epoch are one fit of N", T, float, double) {
  for (const bool shuffle : {false, true}) {
    auto problem = sample<T>(23, true), twin = sample<T>(23, true);
    Optimizer<T> optimizer(Adam{}), other(Adam{});
    FitOptions options;
    options.shuffle = shuffle;
    options.seed = 9;
    options.batch_size = 5;
    options.epochs = 4;
    const History at_once = fit(problem, optimizer, options);
    options.epochs = 1;
    std::vector<double> losses;
    for (options.epochs_before = 0; options.epochs_before < 4; ++options.epochs_before)
      losses.push_back(fit(twin, other, options).loss.at(0));
    CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
    CHECK(losses == at_once.loss);
    CHECK(optimizer.steps() == other.steps());
  }
}

TEST_CASE_TEMPLATE("trainer: the validation loss is that of evaluate, weights included", T, float, double) {
  auto problem = sample<T>();
  const auto validation = sample<T>(6, true);
  const Samples<T> samples = validation.samples();
  Optimizer<T> optimizer(Adam{});
  Callbacks<T> callbacks;
  std::vector<double> expected;
  callbacks.on_epoch = [&](FitState<T>& state) {
    expected.push_back(evaluate<T>(state.network, problem.loss, samples));
  };
  const History history = chainrule::fit<T>(problem.network, problem.loss, problem.samples(), &samples, optimizer,
                                            in_order(3), {&callbacks});
  CHECK(history.validation_loss == expected);
  CHECK(expected.size() == 3);
}

TEST_CASE_TEMPLATE("trainer: clip_norm shortens the gradient and keeps its direction", T, float, double) {
  auto problem = sample<T>();
  const Index count = problem.network.parameter_count();
  const Vector<T> start = parameters(problem.network);
  Tape<T> tape(problem.network, 10);
  Vector<T> g(count);
  gradient<T>(problem.network, problem.loss, problem.batch(), tape, {g.data(), count});
  const double norm = g.template cast<double>().norm();
  FitOptions options = in_order();
  options.batch_size = 10;
  for (const double limit : {norm / 10, norm * 0.999, norm * 1.001, norm * 10}) {
    CAPTURE(limit / norm);
    problem.network.parameters() = start;
    Optimizer<T> optimizer(SGD{1.0});
    options.clip_norm = limit;
    fit(problem, optimizer, options);
    const Vector<T> step = start - problem.network.parameters();
    const double factor = std::min(1.0, limit / (norm + 1e-6));
    CHECK((step.template cast<double>() - factor * g.template cast<double>()).cwiseAbs().maxCoeff() <=
          4 * std::numeric_limits<T>::epsilon());
    if (limit > norm + 1e-6) {
      problem.network.parameters() = start;
      Optimizer<T> free(SGD{1.0});
      options.clip_norm.reset();
      fit(problem, free, options);
      CHECK(same_bits(step, Vector<T>(start - problem.network.parameters())));
    }
  }
}

TEST_CASE_TEMPLATE("trainer: the schedule sets the rate of every step, and the optimizer's own comes back", T, float,
                   double) {
  const std::vector<Schedule> schedules{ConstantRate{},    StepDecay{2, 0.5}, ExponentialDecay{0.8},
                                        CosineDecay{0.01}, OneCycle{},        Warmup{2, 0.1}};
  for (const Schedule& schedule : schedules) {
    CAPTURE(std::string(name(schedule)));
    auto problem = sample<T>();
    Optimizer<T> optimizer(SGD{0.1});
    FitOptions options = in_order(5);
    options.schedule = schedule;
    std::vector<double> rates, expected, at_epochs;
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) { rates.push_back(state.optimizer.lr()); };
    const History history = fit(problem, optimizer, options, {&callbacks});
    for (Index step = 0; step < 15; ++step) {
      expected.push_back(LearningRate(schedule, 0.1).at({step / 3, 5, step, 3}));
      if (step % 3 == 2) at_epochs.push_back(expected.back());
    }
    CHECK(rates == expected);
    CHECK(history.lr == at_epochs);
    CHECK(optimizer.lr() == 0.1);
  }
}

TEST_CASE_TEMPLATE("trainer: the plateau watches the validation loss, or else the training loss", T, float, double) {
  auto problem = sample<T>(), validation = sample<T>(6);
  // Nothing moves at lr = 0, so no epoch is better than the first. A target that the network meets gives a loss of
  // zero.
  const Samples<T> samples = validation.samples();
  FitOptions options = in_order(6);
  options.schedule = Plateau{0.5, 1, 0, 0};
  for (const bool validated : {false, true}) {
    Optimizer<T> optimizer(SGD{1e-12});
    const History history = chainrule::fit<T>(problem.network, problem.loss, problem.samples(),
                                              validated ? &samples : nullptr, optimizer, options);
    const auto& watched = validated ? history.validation_loss : history.loss;
    LearningRate expected(options.schedule, 1e-12);
    for (std::size_t epoch = 0; epoch < 6; ++epoch) {
      CHECK(history.lr[epoch] == expected.at({0, 6, 0, 3}));
      expected.epoch_done(watched[epoch]);
    }
    CHECK(optimizer.lr() == 1e-12);
  }
}

TEST_CASE_TEMPLATE("trainer: options out of range throw before anything changes", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> start = parameters(problem.network);
  const auto throws = [&](const std::function<void(FitOptions&)>& spoil) {
    Optimizer<T> optimizer(Adam{});
    FitOptions options = in_order();
    spoil(options);
    CHECK_THROWS_AS(fit(problem, optimizer, options), std::invalid_argument);
    CHECK(optimizer.steps() == 0);
  };
  for (const Index bad : {0, -1}) {
    throws([=](FitOptions& options) { options.epochs = bad; });
    throws([=](FitOptions& options) { options.batch_size = bad; });
    throws([=](FitOptions& options) { options.patience = bad; });
  }
  for (const double bad : {0.0, -1.0, std::nan("")}) throws([=](FitOptions& options) { options.clip_norm = bad; });
  throws([](FitOptions& options) { options.schedule = StepDecay{0}; });
  CHECK(same_bits(parameters(problem.network), start));
}

TEST_CASE_TEMPLATE("trainer: no samples, or another network's optimizer", T, float, double) {
  auto problem = sample<T>(), other = sample<T>();
  Optimizer<T> optimizer(Adam{});
  const Matrix<T> none(0, 4), no_targets(0, 3);
  const Samples<T> empty{{none.data(), 0, 4, Eigen::OuterStride<>(4)}, Targets<T>(no_targets)};
  CHECK_THROWS_AS(chainrule::fit<T>(problem.network, MSE{}, empty, nullptr, optimizer, in_order()),
                  std::invalid_argument);
  fit(problem, optimizer, in_order());
  const Vector<T> start = parameters(other.network);
  CHECK_THROWS_AS(fit(other, optimizer, in_order()), std::invalid_argument);
  CHECK(same_bits(parameters(other.network), start));
}

TEST_CASE_TEMPLATE("trainer: samples that do not fit throw before anything changes", T, float, double) {
  auto problem = make_problem<T>({{4, 7, 3}, 10}, {Tanh{}, Identity{}}, CrossEntropy{}, 1);
  const Vector<T> before = parameters(problem.network);
  Optimizer<T> optimizer(Adam{});
  const auto fit_with = [&](const Samples<T>& samples, const Samples<T>* validation, bool shuffle) {
    FitOptions options = in_order();
    options.shuffle = shuffle;
    chainrule::fit<T>(problem.network, problem.loss, samples, validation, optimizer, options);
  };
  const Samples<T> good = problem.samples();
  std::vector<std::int64_t> labels = problem.labels;
  labels.back() = 3;
  const std::vector<std::int64_t> longer(11);
  const Samples<T> unknown_label{good.X, Targets<T>(labels.data(), 10)}, short_y{good.X, {problem.labels.data(), 9}},
      long_y{good.X, {longer.data(), 11}};
  const Matrix<T> narrow = problem.X.leftCols(3);
  const Samples<T> narrow_X{narrow, good.y};
  for (const bool shuffle : {false, true})
    for (const Samples<T>* bad : {&unknown_label, &short_y, &long_y, &narrow_X}) {
      CHECK_THROWS_AS(fit_with(*bad, nullptr, shuffle), std::invalid_argument);
      CHECK_THROWS_AS(fit_with(good, bad, shuffle), std::invalid_argument);
    }
  CHECK(same_bits(parameters(problem.network), before));
  CHECK(optimizer.steps() == 0);
}

TEST_CASE_TEMPLATE("trainer: XOR is learned", T, float, double) {
  Network<T> network(2, {{4, Tanh{}}, {1, Sigmoid{}}});
  support::Draw draw(5);
  network.parameters() = draw.vector<T>(network.parameter_count());
  Matrix<T> X(4, 2), y(4, 1), a(4, 1);
  X << 0, 0, 0, 1, 1, 0, 1, 1;
  y << 0, 1, 1, 0;
  Adam rule;
  rule.lr = 0.05;
  Optimizer<T> optimizer(rule);
  FitOptions options = in_order(400);
  const Samples<T> samples{{X.data(), 4, 2, Eigen::OuterStride<>(2)}, Targets<T>(y)};
  const History history = chainrule::fit<T>(network, BCE{}, samples, nullptr, optimizer, options);
  CHECK(history.loss.back() < 0.05);
  predict<T>(network, X, a.data());
  CHECK((((a.array() > T(0.5)) == (y.array() > T(0.5)))).all());
}

TEST_CASE_TEMPLATE("trainer: the last step of an epoch is that of its last batch with a weight", T, float, double) {
  auto problem = sample<T>(22, true);
  problem.weight.tail(9).setZero();
  std::vector<bool> last_of_epoch;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) { last_of_epoch.push_back(state.last_of_epoch); };
  Optimizer<T> optimizer(Adam{});
  FitOptions options = in_order(2);
  options.batch_size = 4;
  fit(problem, optimizer, options, {&callbacks});
  CHECK(last_of_epoch == std::vector<bool>{false, false, false, true, false, false, false, true});
}

TEST_CASE_TEMPLATE("trainer: an order of one's own takes the place of the shuffles", T, float, double) {
  auto problem = sample<T>(7);
  for (Index i = 0; i < 7; ++i) problem.X(i, 0) = static_cast<T>(i);
  FitOptions options;
  options.epochs = 2;
  options.batch_size = 4;
  Index drawn = 0;
  options.draw_order = [&](std::vector<Index>& order) {
    CHECK(order.size() == 7);
    for (Index i = 0; i < 7; ++i) order[static_cast<std::size_t>(i)] = (3 * i + drawn) % 7;
    ++drawn;
  };
  std::vector<T> seen;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) {
    for (Index i = 0; i < state.tape->rows(); ++i) seen.push_back(state.tape->activation(0)(i, 0));
  };
  Optimizer<T> optimizer(Adam{});
  fit(problem, optimizer, options, {&callbacks});
  CHECK(seen == std::vector<T>{0, 3, 6, 2, 5, 1, 4, 1, 4, 0, 3, 6, 2, 5});
}

TEST_CASE_TEMPLATE("trainer: batches count in an epoch's loss by their weights, or by their rows", T, float, double) {
  for (const bool by_rows : {false, true}) {
    auto problem = sample<T>(10, true);
    FitOptions options = in_order(1);
    options.batch_size = 4;
    options.batches_count_by_rows = by_rows;
    std::vector<double> losses;
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) { losses.push_back(state.loss); };
    Optimizer<T> optimizer(Adam{});
    const double loss = fit(problem, optimizer, options, {&callbacks}).loss.back();
    double total = 0, shares = 0;
    for (Index b = 0; b < 3; ++b) {
      const Index rows = std::min<Index>(4, 10 - 4 * b);
      const double share = by_rows ? static_cast<double>(rows) : Batch<T>{problem.samples().from(4 * b), rows}.weight();
      total += share * losses[static_cast<std::size_t>(b)];
      shares += share;
    }
    CHECK(loss == doctest::Approx(total / shares).epsilon(1e-12));
  }
}

TEST_CASE_TEMPLATE("trainer: micro-batches add up to the batch's gradient", T, float, double) {
  for (const Index micro_batch : {1, 3, 4, 9}) {
    CAPTURE(micro_batch);
    auto parts = sample<T>(22, true), whole = sample<T>(22, true);
    FitOptions options = in_order(3);
    options.batch_size = 9;
    Optimizer<T> of_parts(Adam{}), of_whole(Adam{});
    Index most_rows = 0;
    Callbacks<T> callbacks;
    callbacks.on_step = [&](FitState<T>& state) { most_rows = std::max(most_rows, state.tape->capacity()); };
    const History expected = fit(whole, of_whole, options);
    options.micro_batch = micro_batch;
    const History history = fit(parts, of_parts, options, {&callbacks});
    CHECK(most_rows == micro_batch);
    CHECK(of_parts.steps() == of_whole.steps());
    CHECK(support::relative_error(parameters(parts.network), parameters(whole.network)) < support::tolerance<T>);
    CHECK(history.loss.back() == doctest::Approx(expected.loss.back()).epsilon(1e-5));
  }
}

TEST_CASE_TEMPLATE("trainer: orders, progress and losses that cannot be", T, float, double) {
  auto problem = sample<T>();
  const Vector<T> before = parameters(problem.network);
  Optimizer<T> optimizer(SGD{});
  FitOptions options = in_order();
  options.shuffle = true;
  for (const Index row : {Index{-1}, Index{10}, Index{1} << 60}) {
    options.draw_order = [row](std::vector<Index>& order) { std::fill(order.begin(), order.end(), row); };
    CHECK_THROWS_AS(fit<T>(problem, optimizer, options), std::invalid_argument);
    auto weighted = sample<T>(10, true);
    CHECK_THROWS_AS(fit<T>(weighted, optimizer, options), std::invalid_argument);
  }
  options.draw_order = [](std::vector<Index>& order) { order.resize(3); };
  CHECK_THROWS_AS(fit<T>(problem, optimizer, options), std::invalid_argument);
  for (const auto& spoil : std::vector<std::function<void(FitProgress<T>&)>>{
           [](FitProgress<T>& progress) { progress.history.epochs = -1; },
           [](FitProgress<T>& progress) { progress.history.epochs = 2; },
           [](FitProgress<T>& progress) { progress.step = -1; },
           [](FitProgress<T>& progress) { progress.best = {1, -1.0, Vector<T>::Ones(2)}; }}) {
    FitProgress<T> progress;
    spoil(progress);
    CHECK_THROWS_AS(chainrule::fit<T>(problem.network, problem.loss, problem.samples(), nullptr, optimizer, in_order(),
                                      {}, progress),
                    std::invalid_argument);
  }
  for (const Loss& loss : {Loss(Quantile{{}, {}}), Loss(Quantile{{}, {1.5}}), Loss(Huber{{}, -1})}) {
    problem.loss = loss;
    CHECK_THROWS_AS(fit<T>(problem, optimizer, in_order()), std::invalid_argument);
  }
  CHECK(same_bits(parameters(problem.network), before));
}

TEST_CASE_TEMPLATE("trainer: a sample without weight says nothing, whatever its target is", T, float, double) {
  auto problem = sample<T>(10, true), twin = sample<T>(10, true);
  problem.weight[9] = twin.weight[9] = 0;
  problem.y.row(9).setConstant(std::sqrt(std::numeric_limits<T>::max()) * 2);  // whose square is infinite
  Optimizer<T> optimizer(Adam{}), other(Adam{});
  const History history = fit(problem, optimizer, in_order()), expected = fit(twin, other, in_order());
  CHECK(history.loss == expected.loss);
  CHECK(same_bits(parameters(problem.network), parameters(twin.network)));
  CHECK(evaluate<T>(problem.network, problem.loss, problem.samples()) ==
        evaluate<T>(twin.network, twin.loss, twin.samples()));
}
