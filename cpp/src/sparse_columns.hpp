#pragma once

#include <algorithm>
#include <vector>

#include "chainrule/backprop.hpp"
#include "engine/thread_pool.hpp"

namespace chainrule {

/// Some columns of a sparse batch [x 1]: of each, which samples have a number there, in their order, and the numbers.
template <class T>
class SparseColumns {
 public:
  void load(const Batch<T>& batch, engine::Range columns) {
    first_ = columns.begin;
    starts_.assign(static_cast<std::size_t>(columns.size()) + 2, 0);
    found_.clear();
    const auto ones = static_cast<std::int32_t>(batch.samples.X.cols());
    const bool with_ones = columns.end > ones;
    for (Index r = 0; r < batch.size; ++r) {
      const auto x = batch.samples.X.stored(batch.row(r));
      const std::int32_t* at = std::lower_bound(x.columns, x.columns + x.count, columns.begin);
      found_.push_back(at - x.columns);
      for (; at < x.columns + x.count && *at < columns.end; ++at) ++count_before(*at + 2);
      if (with_ones) ++count_before(ones + 2);
    }
    for (std::size_t i = 2; i < starts_.size(); ++i) starts_[i] += starts_[i - 1];
    samples_.resize(static_cast<std::size_t>(starts_.back()));
    values_.resize(samples_.size());
    // One place ahead, so that each start ends up where its column begins.
    const auto put = [&](Index r, std::int32_t column, T value) {
      const auto place = static_cast<std::size_t>(count_before(column + 1)++);
      samples_[place] = static_cast<std::int32_t>(r);
      values_[place] = value;
    };
    for (Index r = 0; r < batch.size; ++r) {
      const auto x = batch.samples.X.stored(batch.row(r));
      for (Index k = found_[static_cast<std::size_t>(r)]; k < x.count && x.columns[k] < columns.end; ++k)
        put(r, x.columns[k], x.values[k]);
      if (with_ones) put(r, ones, T(1));
    }
  }

  Index count(Index column) const { return start(column + 1) - start(column); }
  const std::int32_t* samples(Index column) const { return samples_.data() + start(column); }
  const T* values(Index column) const { return values_.data() + start(column); }

 private:
  Index start(Index column) const { return starts_[static_cast<std::size_t>(column - first_)]; }
  Index& count_before(Index column) { return starts_[static_cast<std::size_t>(column - first_)]; }

  Index first_ = 0;
  std::vector<Index> starts_, found_;
  std::vector<std::int32_t> samples_;
  std::vector<T> values_;
};

}  // namespace chainrule
