#pragma once

#include <algorithm>
#include <limits>

namespace chainrule {

/// Whether small steps on a tape are faster on several threads or on one: their results are the same. Threads whose
/// processors share no cache can take longer to hand over the numbers than the step takes on one; and a virtual
/// machine's processors are moved at any time. So every now and then a few steps try what is not in use.
class StepThreads {
 public:
  StepThreads() = default;

  /// How the next step is taken.
  bool several() const { return several_ != tries_other(); }

  /// How long the last one took, for each of its rows.
  void took(double seconds) {
    if (step_ < 2 * on_trial && step_ % on_trial > 0) {  // the first one still fetches its numbers from the others
      double& least = tries_other() ? least_of_other_ : least_;
      least = std::min(least, seconds);
    }
    ++step_;
    if (step_ == 2 * on_trial) {
      const bool changes = least_of_other_ < 0.95 * least_;
      several_ = several_ != changes;
      cycle_ = changes ? shortest_cycle : std::min(2 * cycle_, longest_cycle);
    } else if (step_ == cycle_) {
      *this = StepThreads(several_, cycle_);
    }
  }

 private:
  StepThreads(bool several, int cycle) : several_(several), cycle_(cycle), step_(0) {}

  bool tries_other() const { return on_trial <= step_ && step_ < 2 * on_trial; }

  static constexpr int on_trial = 4, shortest_cycle = 64, longest_cycle = 2048;  // steps

  bool several_ = true;
  int cycle_ = shortest_cycle;
  int step_ = 2 * on_trial;  // of the cycle; the first one begins behind its trial
  double least_ = std::numeric_limits<double>::infinity(), least_of_other_ = least_;
};

}  // namespace chainrule
