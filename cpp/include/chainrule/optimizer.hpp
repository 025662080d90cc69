#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "chainrule/network.hpp"
#include "chainrule/rule.hpp"
#include "chainrule/tensor_sums.hpp"

namespace chainrule {

/// A rule's settings with the state of one run: the number of steps and the moments, laid out like θ.
///
/// It belongs to the first network that it steps, until `reset`.
template <class T>
class Optimizer {
 public:
  explicit Optimizer(Rule rule) : rule_(std::move(rule)) { check(rule_); }

  const Rule& rule() const { return rule_; }
  /// Moments stay; those that only the new rule has begin with zeros.
  void set_rule(Rule rule);
  double lr() const { return learning_rate(rule_); }
  void set_lr(double lr) { set_learning_rate(rule_, lr); }
  /// Steps taken, t.
  std::int64_t steps() const { return steps_; }
  void reset();

  /// Throws std::invalid_argument where it belongs to another network; else makes room for the moments.
  void attach(const Network<T>& network);

  /// One update of all parameters from `gradient`, laid out like θ. `sums`, unless null, become those of W_1, b_1, W_2,
  /// ….
  void step(Network<T>& network, ConstVectorView<T> gradient, std::vector<TensorSums>* sums = nullptr);

  /// Moment i, laid out like θ, or nullptr where there is none.
  T* moment(int i) { return moments_[i].size() > 0 ? moments_[i].data() : nullptr; }
  const T* moment(int i) const { return moments_[i].size() > 0 ? moments_[i].data() : nullptr; }
  Index parameter_count() const { return parameter_count_; }

  /// What `update` needs of step t + 1; `count_step` says that it was taken. Throws std::invalid_argument where T
  /// cannot hold it.
  UpdateConstants next_constants() const;
  void count_step() { ++steps_; }

  /// Puts back a state that was read off before: for files and pickles. The optimizer then belongs to the next network
  /// of that size that it steps.
  void restore(std::int64_t steps, Index parameter_count);
  /// Moment i, of zeros if there was none: one of a rule before, perhaps.
  T* make_moment(int i) { return make_moment(i, parameter_count_); }

 private:
  T* make_moment(int i, Index size);
  void make_moments(Index size);  // those that the rule has

  Rule rule_;
  std::int64_t steps_ = 0;
  std::uint64_t network_id_ = 0;  // 0: none yet
  Index parameter_count_ = 0;
  std::array<Buffer<T>, max_moments> moments_;
};

extern template class Optimizer<float>;
extern template class Optimizer<double>;

}  // namespace chainrule
