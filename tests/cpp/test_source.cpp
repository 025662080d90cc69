// A fit of samples that come block by block.

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "training.hpp"

using namespace chainrule;
using support::same_bits;
using namespace training;

namespace {

/// The samples of a problem in blocks of some rows.
template <class T>
class Blocks : public Source<T> {
 public:
  Blocks(const Problem<T>& problem, std::vector<Index> sizes, bool tells_rows)
      : problem_(problem), sizes_(std::move(sizes)), tells_rows_(tells_rows) {}
  Index rows() const override { return tells_rows_ ? problem_.X.rows() : 0; }
  const Samples<T>* next() override {
    if (given_ == sizes_.size()) {
      given_ = 0;
      first_ = 0;
      return nullptr;
    }
    const Index rows = sizes_[given_++];
    Samples<T>& block = block_.emplace(problem_.samples().from(first_));
    block.X = {problem_.X.row(first_).data(), rows, problem_.X.cols(), Eigen::OuterStride<>(problem_.X.outerStride())};
    block.y.rows = rows;
    first_ += rows;
    return &block;
  }

 private:
  const Problem<T>& problem_;
  std::vector<Index> sizes_;
  bool tells_rows_;
  std::size_t given_ = 0;
  Index first_ = 0;
  std::optional<Samples<T>> block_;
};

template <class T>
History fit_blocks(Problem<T>& problem, const std::vector<Index>& sizes, const FitOptions& options,
                   bool tells_rows = false, const std::vector<Observer<T>*>& observers = {}) {
  Blocks<T> source(problem, sizes, tells_rows);
  Optimizer<T> optimizer(Adam{});
  return chainrule::fit<T>(problem.network, problem.loss, source, nullptr, optimizer, options, observers);
}

}  // namespace

TEST_CASE_TEMPLATE("source: blocks of whole batches are a fit of all samples", T, float, double) {
  auto blocks = sample<T>(22, true), whole = sample<T>(22, true);
  const History of_blocks = fit_blocks(blocks, {8, 4, 10}, in_order(3));
  Optimizer<T> optimizer(Adam{});
  const History expected = fit(whole, optimizer, in_order(3));
  CHECK(same_bits(parameters(blocks.network), parameters(whole.network)));
  CHECK(of_blocks.loss == expected.loss);
}

TEST_CASE_TEMPLATE("source: each block ends in a short batch, and its samples come once, shuffled within", T, float,
                   double) {
  auto problem = sample<T>(20);
  for (Index i = 0; i < 20; ++i) problem.X(i, 0) = static_cast<T>(i);
  FitOptions options;
  options.batch_size = 4;
  std::vector<std::vector<T>> batches;
  std::vector<bool> last_of_epoch;
  Callbacks<T> callbacks;
  callbacks.on_step = [&](FitState<T>& state) {
    auto& batch = batches.emplace_back();
    for (Index i = 0; i < state.tape->rows(); ++i) batch.push_back(state.tape->activation(0)(i, 0));
    last_of_epoch.push_back(state.last_of_epoch);
  };
  fit_blocks(problem, {7, 13}, options, true, {&callbacks});
  std::vector<std::size_t> sizes;
  std::vector<T> seen;
  for (const auto& batch : batches) {
    sizes.push_back(batch.size());
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  CHECK(sizes == std::vector<std::size_t>{4, 3, 4, 4, 4, 1});
  CHECK(last_of_epoch == std::vector<bool>{false, false, false, false, false, true});
  CHECK(!std::is_sorted(seen.begin(), seen.begin() + 7));
  std::sort(seen.begin(), seen.begin() + 7);
  std::sort(seen.begin() + 7, seen.end());
  for (std::size_t i = 0; i < 20; ++i) CHECK(seen[i] == static_cast<T>(i));
}

TEST_CASE_TEMPLATE("source: no blocks", T, float, double) {
  auto problem = sample<T>();
  CHECK_THROWS_WITH_AS(fit_blocks(problem, {}, in_order()),
                       "X gave no samples with a weight in epoch 1; expected some, and the same ones in each epoch",
                       std::invalid_argument);
}

TEST_CASE_TEMPLATE("source: what does not go with a source of blocks changes nothing", T, float, double) {
  auto problem = sample<T>();
  const auto before = parameters(problem.network);
  for (const char* schedule : {"one_cycle", "warmup"}) {
    FitOptions options = in_order();
    options.schedule = schedule_named(schedule);
    CHECK_THROWS_WITH_AS(fit_blocks(problem, {8, 4}, options),
                         ("schedule is " + std::string(schedule) +
                          ", which needs the number of steps; a source of unknown length does not tell it")
                             .c_str(),
                         std::invalid_argument);
  }
  struct Alone : Ranks {
    Alone() : Ranks(0, 1, 0, 12) {}
    void sum(float*, Index) override {}
    void sum(double*, Index) override {}
  } ranks;
  FitOptions options = in_order();
  options.ranks = &ranks;
  CHECK_THROWS_WITH_AS(fit_blocks(problem, {8, 4}, options, true),
                       "ranks are given beside a source of blocks; expected samples, of each rank its own",
                       std::invalid_argument);
  CHECK(same_bits(parameters(problem.network), before));
}
