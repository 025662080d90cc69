#pragma once

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "chainrule/batch.hpp"
#include "chainrule/network.hpp"
#include "chainrule/ranks.hpp"
#include "engine/range.hpp"
#include "gathered.hpp"

namespace chainrule {

/// The samples that each step of a block takes: in their order, or shuffled. Of what the steps of all ranks take, those
/// that are here; in a reproducible fit all of them.
template <class T>
class Batches {
 public:
  Batches(Index size, const Network<T>& network, Ranks* ranks) : size_(size), ranks_(ranks) {
    if (ranks && ranks->reproducible)
      gathered_.emplace(*ranks, network.inputs(), network.outputs());
    else if (ranks)
      first_ = ranks->first;
  }

  template <class DrawOrder>
  void begin(const Samples<T>& block, const DrawOrder* draw_order) {
    block_ = &block;
    here_ = block.X.rows();
    all_ = ranks_ ? ranks_->rows : here_;
    if (draw_order) {
      order_.resize(static_cast<std::size_t>(all_));
      (*draw_order)(order_);
      if (static_cast<Index>(order_.size()) != all_)
        throw std::invalid_argument("draw_order gave " + std::to_string(order_.size()) + " rows; expected " +
                                    std::to_string(all_));
      for (const Index row : order_)
        if (row < 0 || row >= all_)
          throw std::invalid_argument("draw_order gave row " + std::to_string(row) + "; expected 0 to " +
                                      std::to_string(all_ - 1));
      if (here_ != all_ && !gathered_) keep_mine();
    }
    if (gathered_) return;
    weights_.resize(static_cast<std::size_t>(count()));
    for (Index i = 0; i < count(); ++i) weights_[static_cast<std::size_t>(i)] = cut(start(i), start(i + 1)).weight();
    if (ranks_) ranks_->sum(weights_.data(), count());
  }

  /// Samples that the batches are made of.
  Index rows() const { return gathered_ ? all_ : here_; }
  Index count() const { return engine::parts_of(all_, size_); }
  /// The last batch that has a weight; of gathered ones, whose weights come later, the last of all.
  Index last() const {
    Index i = count() - 1;
    while (i > 0 && !gathered_ && weights_[static_cast<std::size_t>(i)] == 0) --i;
    return i;
  }
  /// Rows of batch i, over all ranks.
  Index size(Index i) const { return std::min(size_, all_ - i * size_); }
  /// Goes on to batch i.
  void go_to(Index i) {
    current_ = i;
    if (gathered_) gathered_->gather(*block_, order(), start(i), start(i + 1));
  }
  /// Where batch i starts in the order of those rows.
  Index start(Index i) const {
    if (starts_.empty()) return std::clamp<Index>(i * size_ - first_, 0, rows());
    return i < count() ? starts_[static_cast<std::size_t>(i)] : here_;
  }
  /// Weight of the current batch, over all ranks.
  double weight() const {
    if (!gathered_) return weights_[static_cast<std::size_t>(current_)];
    return Batch<T>{gathered_->samples(), start(current_ + 1) - start(current_)}.weight();
  }
  /// Row of the sample at a place in the order, where `cut` does not tell.
  Index row(Index place) const { return gathered_ && order() ? order_[static_cast<std::size_t>(place)] : place; }

  /// The places of samples `place`, … in the order of all ranks; nullptr where they stand side by side.
  const Index* places(Index place) const { return places_.empty() ? nullptr : places_.data() + place; }

  /// The samples from place `from` in the order to before place `to`, all in the current batch.
  Batch<T> cut(Index from, Index to, double whole_weight = 0) const {
    if (gathered_) return {gathered_->samples().from(from - start(current_)), to - from, nullptr, whole_weight};
    return Batch<T>{*block_, here_, order()}.part(from, to - from, whole_weight);
  }

 private:
  const Index* order() const { return order_.empty() ? nullptr : order_.data(); }

  void keep_mine() {
    starts_.clear();
    places_.clear();
    for (Index i = 0; i < all_; ++i) {
      const std::size_t kept = places_.size();
      if (i % size_ == 0) starts_.push_back(static_cast<Index>(kept));
      const Index row = order_[static_cast<std::size_t>(i)] - first_;
      if (row < 0 || row >= here_) continue;
      order_[kept] = row;
      places_.push_back(i);
    }
  }

  Index size_, first_ = 0;
  Ranks* ranks_;
  const Samples<T>* block_ = nullptr;
  Index here_ = 0, all_ = 0, current_ = 0;
  std::optional<Gathered<T>> gathered_;
  std::vector<Index> order_, starts_, places_;
  std::vector<double> weights_;
};

}  // namespace chainrule
