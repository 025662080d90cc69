#pragma once

#include "chainrule/batch.hpp"
#include "chainrule/ranks.hpp"

namespace chainrule {

/// Samples of all ranks, on each of them: dense, in their order among those of all.
template <class T>
class Gathered {
 public:
  Gathered(Ranks& ranks, Index inputs, Index outputs) : ranks_(ranks), inputs_(inputs), outputs_(outputs) {}

  /// Brings the samples from place `from` in the order to before place `to`. Without `order` they are as they come.
  void gather(const Samples<T>& mine, const Index* order, Index from, Index to) {
    rows_ = to - from;
    const Index all = checked_product(rows_, inputs_ + outputs_ + 1);
    if (memory_.size() < all) memory_ = Buffer<T>(all);
    VectorView<T> everything(memory_.data(), all);
    everything.setZero();
    for (Index i = 0; i < rows_; ++i) {
      const Index row = (order ? order[from + i] : from + i) - ranks_.first;
      if (row < 0 || row >= mine.X.rows()) continue;
      mine.X.load(row, everything.data() + i * inputs_);
      mine.y.load(row, outputs_, everything.data() + y_begin() + i * outputs_);
      everything[weight_begin() + i] = mine.sample_weight ? mine.sample_weight[row] : T(1);
    }
    ranks_.sum(memory_.data(), all);
    everything.array() += T(0);  // a sum with zeros knows no -0
  }

  Samples<T> samples() const {
    const T* const X = memory_.data();
    return {ConstMatrixView<T>(X, rows_, inputs_, Eigen::OuterStride<>(inputs_)),
            Targets<T>(ConstMatrixView<T>(X + y_begin(), rows_, outputs_, Eigen::OuterStride<>(outputs_))),
            X + weight_begin()};
  }

 private:
  Index y_begin() const { return rows_ * inputs_; }
  Index weight_begin() const { return y_begin() + rows_ * outputs_; }

  Ranks& ranks_;
  Index inputs_, outputs_, rows_ = 0;
  Buffer<T> memory_;
};

}  // namespace chainrule
