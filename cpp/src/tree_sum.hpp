#pragma once

#include <cstddef>
#include <vector>

#include "chainrule/ranks.hpp"

namespace chainrule {

/// The sum of n vectors that the ranks compute together, the same to the bit for any number of them.
///
/// The vectors are added pairwise, in a tree that n alone decides. Each rank computes a run of them, and adds up what
/// lies within. A node above with one child of one rank and one of another is added by `Ranks::sum`: of two numbers
/// and zeros a sum is the same in any order. What is above such nodes, every rank adds up for itself: that many vectors
/// are stored and sent, about half as many as there are ranks.
template <class T>
class TreeSum {
 public:
  TreeSum(Ranks& ranks, Index length) : ranks_(ranks), length_(length) {}

  /// Σ_i v_i for i = 0 … n-1, valid until the next; compute(i, to, add) writes v_i to `to`, or adds it to what is
  /// there.
  template <class Compute>
  T* sum(Index n, const Compute& compute) {
    n_ = n;
    shared_.clear();
    find_shared({0, n});
    const Index all = checked_product(static_cast<Index>(shared_.size()), length_);
    if (memory_.size() < all) memory_ = Buffer<T>(all);
    VectorView<T>(memory_.data(), all).setZero();
    T* to = memory_.data();
    for (const Node& node : shared_) {
      if (is_mine(node)) {
        add_up(node, to, 0, compute);
      } else {
        for (const Node& child : {node.left(), node.right()})
          if (is_mine(child)) add_up(child, to, 0, compute);
      }
      to += length_;
    }
    ranks_.sum(memory_.data(), all);
    Index next = 0;
    return add_up_shared({0, n}, next);
  }

 private:
  struct Node {
    Index first, last;  // of the vectors, to behind the last
    Index middle() const { return first + (last - first) / 2; }
    Node left() const { return {first, middle()}; }
    Node right() const { return {middle(), last}; }
    bool is_leaf() const { return last - first == 1; }
  };

  /// Rank r computes the vectors ⌊n r / size⌋ … ⌊n (r + 1) / size⌋ - 1.
  Index rank_of(Index i) const { return (ranks_.size * (i + 1) - 1) / n_; }
  bool is_of_one(const Node& node) const { return rank_of(node.first) == rank_of(node.last - 1); }
  bool is_mine(const Node& node) const { return is_of_one(node) && rank_of(node.first) == ranks_.rank; }
  bool is_shared(const Node& node) const {
    return is_of_one(node) || (is_of_one(node.left()) && is_of_one(node.right()));
  }

  void find_shared(const Node& node) {
    if (is_shared(node)) return shared_.push_back(node);
    find_shared(node.left());
    find_shared(node.right());
  }

  template <class Compute>
  void add_up(const Node& node, T* to, std::size_t depth, const Compute& compute) {
    if (node.is_leaf()) return compute(node.first, to, false);
    add_up(node.left(), to, depth, compute);
    if (node.right().is_leaf()) return compute(node.right().first, to, true);
    if (rights_.size() == depth) rights_.emplace_back(length_);
    add_up(node.right(), rights_[depth].data(), depth + 1, compute);
    view(to) += view(rights_[depth].data());
  }

  T* add_up_shared(const Node& node, Index& next) {
    if (is_shared(node)) {
      T* const value = memory_.data() + length_ * next++;
      view(value).array() += T(0);  // a sum with zeros knows no -0
      return value;
    }
    T* const left = add_up_shared(node.left(), next);
    view(left) += view(add_up_shared(node.right(), next));
    return left;
  }

  VectorView<T> view(T* data) const { return {data, length_}; }

  Ranks& ranks_;
  Index length_, n_ = 0;
  std::vector<Node> shared_;
  Buffer<T> memory_;
  std::vector<Buffer<T>> rights_;  // right children that are being added up, by depth
};

}  // namespace chainrule
