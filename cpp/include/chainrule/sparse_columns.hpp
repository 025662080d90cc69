#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "chainrule/batch.hpp"

namespace chainrule {

/// Columns of a sparse batch [x 1]: of each, which samples have a number there, in their order, and the numbers. A step
/// finds them itself; who takes the same batch again and again finds all of them once, and tells it by Batch::columns.
template <class T>
class SparseColumns {
 public:
  /// Columns first … end - 1 of `batch`; the ones are its last.
  void load(const Batch<T>& batch, Index first, Index end) {
    const Index ones = batch.samples.X.cols();
    first_ = first;
    starts_.assign(static_cast<std::size_t>(end - first) + 2, 0);
    found_.resize(static_cast<std::size_t>(batch.size));
    const bool with_ones = end > ones;
    // The numbers of each column, two places ahead of it.
    Index* const counts = starts_.data() + 2;
    for (Index r = 0; r < batch.size; ++r) {
      const auto x = batch.samples.X.stored(batch.row(r));
      const std::int32_t *begin = x.columns, *behind = begin + x.count;
      if (first > 0) begin = std::lower_bound(begin, behind, first);
      if (end < ones) behind = std::lower_bound(begin, behind, end);
      found_[static_cast<std::size_t>(r)] = {begin - x.columns, behind - x.columns};
      for (const std::int32_t* at = begin; at < behind; ++at) ++counts[*at - first];
      if (with_ones) ++counts[ones - first];
    }
    for (std::size_t i = 2; i < starts_.size(); ++i) starts_[i] += starts_[i - 1];
    samples_.resize(static_cast<std::size_t>(starts_.back()));
    values_.resize(samples_.size());
    // One place ahead, so that each start ends up where its column begins.
    Index* const next = starts_.data() + 1;
    std::int32_t* const samples = samples_.data();
    T* const values = values_.data();
    for (Index r = 0; r < batch.size; ++r) {
      const auto x = batch.samples.X.stored(batch.row(r));
      const auto put = [&](Index column, T value) {
        const Index place = next[column - first]++;
        samples[place] = static_cast<std::int32_t>(r);
        values[place] = value;
      };
      const auto [begin, behind] = found_[static_cast<std::size_t>(r)];
      for (Index k = begin; k < behind; ++k) put(x.columns[k], x.values[k]);
      if (with_ones) put(ones, T(1));
    }
  }

  Index count(Index column) const { return start(column + 1) - start(column); }
  const std::int32_t* samples(Index column) const { return samples_.data() + start(column); }
  const T* values(Index column) const { return values_.data() + start(column); }

 private:
  Index start(Index column) const { return starts_[static_cast<std::size_t>(column - first_)]; }

  Index first_ = 0;
  std::vector<Index> starts_;
  std::vector<std::pair<Index, Index>> found_;  // of each sample's numbers
  std::vector<std::int32_t> samples_;
  std::vector<T> values_;
};

}  // namespace chainrule
