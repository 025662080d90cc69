// Processes that train one network together; here each is a thread.

#include <doctest/doctest.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <numeric>
#include <thread>

#include "chainrule/gradient_flow.hpp"
#include "chainrule/trainer.hpp"
#include "gathered.hpp"
#include "support.hpp"
#include "tree_sum.hpp"

using namespace chainrule;
using support::Draw;
using support::make_problem;
using support::Problem;
using support::relative_error;
using support::same_bits;

namespace {

/// Where threads that pass for ranks meet.
struct Meeting {
  explicit Meeting(Index size) : barrier(size), arrays(static_cast<std::size_t>(size)) {}
  std::barrier<> barrier;
  std::vector<void*> arrays;
};

class ThreadRanks : public Ranks {
 public:
  ThreadRanks(Meeting& meeting, Index rank, Index first, Index rows, bool reproducible)
      : Ranks(rank, static_cast<Index>(meeting.arrays.size()), first, rows, reproducible), meeting_(meeting) {}
  void sum(float* values, Index count) override { sum_of(values, count); }
  void sum(double* values, Index count) override { sum_of(values, count); }
  Index numbers_sent = 0;

 private:
  template <class T>
  void sum_of(T* values, Index count) {
    numbers_sent += count;
    meeting_.arrays[static_cast<std::size_t>(rank)] = values;
    meeting_.barrier.arrive_and_wait();
    Vector<T> total = Vector<T>::Zero(count);
    for (void* array : meeting_.arrays) total += VectorView<T>(static_cast<T*>(array), count);
    meeting_.barrier.arrive_and_wait();
    VectorView<T>(values, count) = total;
    meeting_.barrier.arrive_and_wait();
  }

  Meeting& meeting_;
};

/// Calls job(ranks) on each of `size` ranks, which have unequal shares of the rows.
template <class Job>
void on_ranks(Index size, Index rows, bool reproducible, const Job& job) {
  Meeting meeting(size);
  const auto bound = [&](Index r) { return rows * r * (r + 1) / (size * (size + 1)); };
  std::vector<std::thread> threads;
  for (Index r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      ThreadRanks ranks(meeting, r, bound(r), rows, reproducible);
      job(ranks, bound(r + 1) - bound(r));
    });
  for (std::thread& thread : threads) thread.join();
}

template <class T>
Samples<T> share(const Problem<T>& problem, Index first, Index rows) {
  Samples<T> mine = problem.samples().from(first);
  mine.X = {problem.X.row(first).data(), rows, problem.X.cols(), Eigen::OuterStride<>(problem.X.outerStride())};
  mine.y.rows = rows;
  return mine;
}

/// What a fit leaves behind: the parameters and the losses.
template <class T>
struct Result {
  Vector<T> parameters;
  History history;
};

/// By one process without Ranks where `size` is 0.
template <class T>
std::vector<Result<T>> train(const Problem<T>& problem, Index size, bool reproducible, FitOptions options,
                             double dropout = 0) {
  const Index rows = problem.X.rows();
  std::vector<Result<T>> results(static_cast<std::size_t>(std::max<Index>(1, size)));
  const auto fit_on = [&](const Samples<T>& samples, const Samples<T>& validation, Ranks* ranks, Result<T>& result) {
    FitOptions mine = options;
    mine.ranks = ranks;
    std::vector<Layer> layers = problem.network.layers();
    layers.front().dropout = dropout;
    Network<T> network(problem.network.inputs(), layers);
    network.parameters() = problem.network.parameters();
    Optimizer<T> optimizer(Adam{0.01});
    result.history = fit<T>(network, problem.loss, samples, &validation, optimizer, mine);
    result.parameters = network.parameters();
  };
  if (size == 0)
    fit_on(problem.samples(), problem.samples(), nullptr, results[0]);
  else
    on_ranks(size, rows, reproducible, [&](Ranks& ranks, Index n) {
      const Samples<T> mine = share(problem, ranks.first, n);
      fit_on(mine, mine, &ranks, results[static_cast<std::size_t>(ranks.rank)]);
    });
  return results;
}

FitOptions options_of(bool shuffle, Index batch_size, std::optional<Index> micro_batch) {
  FitOptions options;
  options.epochs = 3;
  options.batch_size = batch_size;
  options.shuffle = shuffle;
  options.micro_batch = micro_batch;
  options.clip_norm = 0.5;
  options.objective = {0.5, 0.1};
  return options;
}

}  // namespace

TEST_CASE_TEMPLATE("ranks: a fit is that of one process with the rows of all", T, float, double) {
  const auto problem =
      make_problem<T>({{4, 20, 3}, 61, true}, {Tanh{}, Softmax{}}, CrossEntropy{}, 1);  // the last batch is short
  for (const bool shuffle : {false, true})
    for (const bool reproducible : {false, true}) {
      CAPTURE(shuffle);
      CAPTURE(reproducible);
      const FitOptions options = options_of(shuffle, 25, 5);
      const auto one = train(problem, 0, false, options)[0];
      for (const Index size : {1, 2, 3, 4}) {
        CAPTURE(size);
        const auto several = train(problem, size, reproducible, options);
        for (const auto& each : several) {
          CHECK(same_bits(each.parameters, several[0].parameters));
          CHECK(each.history.loss == several[0].history.loss);
          CHECK(each.history.validation_loss == several[0].history.validation_loss);
        }
        CHECK(relative_error(several[0].parameters, one.parameters) < support::tolerance<T>);
        CHECK(several[0].history.loss.back() == doctest::Approx(one.history.loss.back()).epsilon(1e-5));
        CHECK(several[0].history.validation_loss.back() ==
              doctest::Approx(one.history.validation_loss.back()).epsilon(1e-5));
      }
    }
}

TEST_CASE_TEMPLATE("ranks: the same units drop out as in one process", T, float, double) {
  const auto problem = make_problem<T>({{4, 20, 3}, 61, true}, {Tanh{}, Softmax{}}, CrossEntropy{}, 1);
  for (const bool shuffle : {false, true}) {
    CAPTURE(shuffle);
    const FitOptions options = options_of(shuffle, 25, 5);
    const auto one = train(problem, 0, false, options, 0.4)[0];
    for (const Index size : {2, 3}) {
      CAPTURE(size);
      for (const Result<T>& result : train(problem, size, false, options, 0.4))
        CHECK(support::relative_error(result.parameters, one.parameters) < support::tolerance<T>);
    }
  }
}

TEST_CASE_TEMPLATE("ranks: reproducible, any number of them gives the same bits", T, float, double) {
  struct Case {
    Loss loss;
    Activation output;
    Index batch_size;
    std::optional<Index> micro_batch;
    bool shuffle;
  };
  for (const Case& c :
       {Case{CrossEntropy{}, Softmax{}, 25, 3, true}, Case{MSE{}, Identity{}, 70, {}, false},
        Case{loss_named("quantile", {0.1, 0.5, 0.9}), Identity{}, 40, {}, true}, Case{MSE{}, Identity{}, 7, 1, true}}) {
    const auto problem = make_problem<T>({{4, 33, 16, 3}, 97, true}, {Tanh{}, SiLU{}, c.output}, c.loss, 2);
    const FitOptions options = options_of(c.shuffle, c.batch_size, c.micro_batch);
    const auto one = train(problem, 1, true, options)[0];
    CHECK(!same_bits(one.parameters, problem.network.parameters()));
    for (const Index size : {2, 3, 4, 7}) {
      CAPTURE(size);
      for (const auto& each : train(problem, size, true, options)) {
        CHECK(same_bits(each.parameters, one.parameters));
        CHECK(each.history.loss == one.history.loss);
        CHECK(each.history.validation_loss == one.history.validation_loss);
      }
    }
  }
}

TEST_CASE_TEMPLATE("ranks: all know the row where a step stopped being finite", T, float, double) {
  auto problem = make_problem<T>({{4, 5, 1}, 30}, {ReLU{}, Identity{}}, MSE{}, 3);
  problem.y(17, 0) = std::numeric_limits<T>::max();
  for (const bool shuffle : {false, true}) {
    FitOptions options = options_of(shuffle, 8, 3);
    options.on_non_finite = OnNonFinite::ignore;
    options.epochs = 1;
    for (const bool reproducible : {false, true}) {
      for (const auto& each : train(problem, 3, reproducible, options)) {
        CHECK(each.history.steps_left_out == 1);
        REQUIRE(each.history.non_finite);
        CHECK(each.history.non_finite->row == 17);
        CHECK(each.history.non_finite->tensor == "loss");
      }
    }
  }
}

TEST_CASE_TEMPLATE("tree sum: all vectors, the same bits for any number of ranks, and few of them sent", T, float,
                   double) {
  const Index length = 9;
  for (Index n = 1; n <= 40; ++n) {
    CAPTURE(n);
    const Matrix<T> values = Draw(static_cast<std::uint64_t>(n)).matrix<T>(n, length);
    Vector<T> one;
    for (const Index size : {1, 2, 3, 4, 5, 8}) {
      CAPTURE(size);
      std::vector<Vector<T>> sums(static_cast<std::size_t>(size));
      std::vector<Index> computed(static_cast<std::size_t>(size)), sent(computed);
      on_ranks(size, n, true, [&](ThreadRanks& ranks, Index) {
        const auto r = static_cast<std::size_t>(ranks.rank);
        TreeSum<T> tree(ranks, length);
        for (int twice = 0; twice < 2; ++twice)
          sums[r] = VectorView<T>(tree.sum(n,
                                           [&](Index i, T* to, bool add) {
                                             ++computed[r];
                                             VectorView<T> v(to, length);
                                             if (!add) v.setZero();
                                             v += values.row(i).transpose();
                                           }),
                                  length);
        sent[r] = ranks.numbers_sent / 2 / length;
      });
      if (size == 1) {
        one = sums[0];
        CHECK(relative_error(one, values.colwise().sum().transpose()) < support::tolerance<T>);
      }
      for (const auto& sum : sums) CHECK(same_bits(sum, one));
      CHECK(std::accumulate(computed.begin(), computed.end(), Index{0}) == 2 * n);
      CHECK(*std::max_element(computed.begin(), computed.end()) <= 2 * ((n + size - 1) / size));
      if (size <= 2) CHECK(sent[0] == 1);
      if (n % 8 == 0 && (size == 4 || size == 8)) CHECK(sent[0] == size / 2);
    }
  }
}

TEST_CASE_TEMPLATE("gathered: samples of all ranks in their order, negative zeros without their sign", T, float,
                   double) {
  auto problem =
      make_problem<T>({{3, 6}, 20, true}, {Identity{}}, loss_named("quantile", {0.1, 0.9}), 4);  // three targets
  problem.X(7, 1) = T(-0.0);
  std::vector<Index> order(20);
  for (std::size_t i = 0; i < 20; ++i) order[i] = static_cast<Index>(7 * i % 20);
  for (const Index size : {1, 3}) {
    Matrix<T> seen(0, 0);
    on_ranks(size, 20, true, [&](ThreadRanks& ranks, Index n) {
      Gathered<T> gathered(ranks, 3, 6);
      gathered.gather(share(problem, ranks.first, n), nullptr, 2, 17);
      gathered.gather(share(problem, ranks.first, n), order.data(), 1, 5);
      if (ranks.rank > 0) return;
      const Samples<T> samples = gathered.samples();
      seen.resize(4, 10);
      for (Index i = 0; i < 4; ++i) {
        samples.X.load(i, seen.row(i).data());
        samples.y.load(i, 6, seen.row(i).data() + 3);
        seen(i, 9) = samples.sample_weight[i];
      }
    });
    REQUIRE(seen.rows() == 4);
    for (Index i = 0; i < 4; ++i) {
      const Index row = order[static_cast<std::size_t>(i + 1)];
      for (Index j = 0; j < 3; ++j) CHECK(seen(i, j) == problem.X(row, j));
      for (Index j = 0; j < 6; ++j) CHECK(seen(i, 3 + j) == problem.y(row, j / 2));
      CHECK(seen(i, 9) == problem.weight[row]);
      if (row == 7) CHECK(!std::signbit(seen(i, 1)));
    }
  }
}

TEST_CASE_TEMPLATE("ranks: gradient flow of steps in which a rank has no rows", T, float, double) {
  const auto problem = make_problem<T>({{4, 7, 3}, 18}, {ReLU{}, Identity{}}, MSE{}, 1);
  for (const bool reproducible : {false, true}) {
    CAPTURE(reproducible);
    FitOptions options;
    options.batch_size = 3;  // one part, where batches are cut into parts
    options.shuffle = false;
    std::vector<Index> rows(3);
    on_ranks(3, 18, reproducible, [&](Ranks& ranks, Index n) {
      FitOptions mine = options;
      mine.ranks = &ranks;
      Network<T> network(problem.network);
      Optimizer<T> optimizer(SGD{0.1});
      FlowRecord record(1);
      FlowRecorder<T> recorder(record, network);
      fit<T>(network, problem.loss, share(problem, ranks.first, n), nullptr, optimizer, mine, {&recorder});
      CHECK(record.flows.size() == 6);
      for (const GradientFlowReport& flow : record.flows) {
        CHECK(flow.parameters.size() == 4);
        CHECK(flow.parameters[0].norm > 0);
        REQUIRE(flow.layers.size() == 2);
        for (const LayerFlow& layer : flow.layers) CHECK(std::isnan(layer.delta_norm) == (flow.rows == 0));
        rows[static_cast<std::size_t>(ranks.rank)] += flow.rows;
      }
    });
    CHECK(std::accumulate(rows.begin(), rows.end(), Index{0}) == 18);
  }
}
