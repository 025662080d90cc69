#pragma once

#include <algorithm>
#include <chainrule/batch.hpp>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace chainrule::bindings {

/// Some rows of the samples, copied together in the order in which they are named; or all of them as they are.
template <class T>
class Selection {
 public:
  Selection(const Samples<T>& all, const std::optional<std::vector<Index>>& rows) {
    if (!rows) {
      samples_.emplace(all);
      return;
    }
    const auto n = static_cast<Index>(rows->size());
    X_.resize(n, all.X.cols());
    if (all.y.labels)
      labels_.resize(rows->size());
    else
      y_.resize(n, all.y.columns);
    if (all.sample_weight) weight_.resize(n);
    for (Index i = 0; i < n; ++i) {
      const Index row = (*rows)[static_cast<std::size_t>(i)];
      all.X.load(row, X_.row(i).data());
      if (all.y.labels)
        labels_[static_cast<std::size_t>(i)] = all.y.labels[row];
      else
        std::copy_n(all.y.values + row * all.y.stride, all.y.columns, y_.row(i).data());
      if (all.sample_weight) weight_[i] = all.sample_weight[row];
    }
    const ConstMatrixView<T> X(X_.data(), n, X_.cols(), Eigen::OuterStride<>(X_.cols()));
    const Targets<T> y = all.y.labels ? Targets<T>(labels_.data(), n) : Targets<T>(y_);
    samples_.emplace(Samples<T>{X, y, all.sample_weight ? weight_.data() : nullptr});
  }
  Selection(const Selection&) = delete;

  /// std::invalid_argument where one is not there, or where none of them has a weight.
  static void check(const Samples<T>& all, const std::optional<std::vector<Index>>& rows) {
    const auto is_there = [&](Index row) { return row >= 0 && row < all.X.rows(); };
    if (rows && !std::all_of(rows->begin(), rows->end(), is_there))
      throw std::invalid_argument("rows holds one that X does not have; expected 0 to " +
                                  std::to_string(all.X.rows() - 1));
    if (rows && all.sample_weight &&
        std::none_of(rows->begin(), rows->end(), [&](Index row) { return all.sample_weight[row] > 0; }))
      throw std::invalid_argument("sample_weight is zero throughout the rows; expected at least one weight > 0");
  }

  const Samples<T>& samples() const { return *samples_; }

 private:
  Matrix<T> X_, y_;
  std::vector<std::int64_t> labels_;
  Vector<T> weight_;
  std::optional<Samples<T>> samples_;
};

}  // namespace chainrule::bindings
