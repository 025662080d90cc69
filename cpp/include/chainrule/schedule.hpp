#pragma once

#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "chainrule/matrix.hpp"

namespace chainrule {

/// Where a fit stands: step and epoch count from 0.
struct Progress {
  Index epoch, epochs;
  Index step, steps_per_epoch;
};

// How the learning rate changes: `rate(lr, progress)` from the optimizer's own lr; `check()` throws where a setting is
// out of range; one whose rate depends on `steps_per_epoch` has `by_steps`. To add one, write it here and name it in
// the variant below.

struct ConstantRate {
  static constexpr const char* name = "constant";
  double rate(double lr, const Progress&) const { return lr; }
  void check() const {}
};

/// lr γ^⌊epoch / step_size⌋
struct StepDecay {
  static constexpr const char* name = "step";
  Index step_size = 10;  // epochs
  double gamma = 0.1;
  double rate(double lr, const Progress& at) const;
  void check() const;
};

/// lr γ^epoch
struct ExponentialDecay {
  static constexpr const char* name = "exponential";
  double gamma = 0.95;
  double rate(double lr, const Progress& at) const;
  void check() const;
};

/// η_min + (lr - η_min) (1 + cos(π epoch / epochs)) / 2.  Loshchilov & Hutter 2017
struct CosineDecay {
  static constexpr const char* name = "cosine";
  double eta_min = 0;
  double rate(double lr, const Progress& at) const;
  void check() const;
};

/// Step by step from lr / div_factor up to lr in the first pct_start of all steps, then down to
/// lr / (div_factor · final_div_factor), both along a cosine.  Smith & Topin 2018
struct OneCycle {
  static constexpr const char* name = "one_cycle";
  static constexpr bool by_steps = true;
  double pct_start = 0.3;
  double div_factor = 25;
  double final_div_factor = 1e4;
  double rate(double lr, const Progress& at) const;
  void check() const;
};

/// Step by step, linearly, from start_factor · lr to lr over the first `epochs` epochs.
struct Warmup {
  static constexpr const char* name = "warmup";
  static constexpr bool by_steps = true;
  Index epochs = 5;
  double start_factor = 0.1;
  double rate(double lr, const Progress& at) const;
  void check() const;
};

/// Times `factor` whenever the watched loss has not become better, by the relative `threshold`, for more than
/// `patience` epochs in a row.
struct Plateau {
  static constexpr const char* name = "plateau";
  double factor = 0.1;
  Index patience = 10;  // epochs
  double threshold = 1e-4;
  double min_lr = 0;
  double rate(double lr, const Progress&) const { return lr; }
  void check() const;
};

using Schedule = std::variant<ConstantRate, StepDecay, ExponentialDecay, CosineDecay, OneCycle, Warmup, Plateau>;

/// The schedule of that name with its defaults; std::invalid_argument for an unknown name.
Schedule schedule_named(const std::string& name);
std::vector<std::string> schedule_names();
const char* name(const Schedule& schedule);
/// Whether it has to know how many steps an epoch takes.
bool by_steps(const Schedule& schedule);
/// std::invalid_argument naming the setting that is out of range.
void check(const Schedule& schedule);

/// A schedule in the course of one fit.
class LearningRate {
 public:
  /// What it knows beside the schedule.
  struct State {
    double start;  // the lr that the schedule starts from
    double lr = start;
    double best = std::numeric_limits<double>::infinity();
    Index bad_epochs = 0;
  };

  LearningRate(Schedule schedule, double lr) : LearningRate(std::move(schedule), State{lr}) {}
  LearningRate(Schedule schedule, State state) : schedule_(std::move(schedule)), state_(state) {}
  double at(const Progress& progress) const;
  /// Tells it the loss that is watched, at the end of an epoch.
  void epoch_done(double loss);
  const State& state() const { return state_; }

 private:
  Schedule schedule_;
  State state_;
};

}  // namespace chainrule
