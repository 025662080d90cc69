#include "chainrule/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "named.hpp"
#include "number.hpp"

namespace chainrule {

static constexpr double pi = 3.14159265358979323846;

double StepDecay::rate(double lr, const Progress& at) const {
  return lr * std::pow(gamma, static_cast<double>(at.epoch / step_size));
}

double ExponentialDecay::rate(double lr, const Progress& at) const {
  return lr * std::pow(gamma, static_cast<double>(at.epoch));
}

double CosineDecay::rate(double lr, const Progress& at) const {
  const double share = static_cast<double>(at.epoch) / static_cast<double>(at.epochs);
  return eta_min + (lr - eta_min) * (1 + std::cos(pi * share)) / 2;
}

double OneCycle::rate(double lr, const Progress& at) const {
  const auto along_cosine = [](double from, double to, double share) {
    return to + (from - to) / 2 * (1 + std::cos(pi * share));
  };
  const double first = lr / div_factor, last = first / final_div_factor;
  const double end = static_cast<double>(at.epochs) * static_cast<double>(at.steps_per_epoch) - 1;
  const double top = pct_start * (end + 1) - 1, step = static_cast<double>(at.step);
  if (step <= top) return along_cosine(first, lr, top > 0 ? step / top : 1);
  return along_cosine(lr, last, end > top ? std::min(1.0, (step - top) / (end - top)) : 1);
}

double Warmup::rate(double lr, const Progress& at) const {
  const double steps = static_cast<double>(epochs) * static_cast<double>(at.steps_per_epoch);
  return lr * (start_factor + (1 - start_factor) * std::min(1.0, static_cast<double>(at.step) / steps));
}

Schedule schedule_named(const std::string& name) { return Named<Schedule>::make("schedule", name); }

std::vector<std::string> schedule_names() { return Named<Schedule>::names(); }

const char* name(const Schedule& schedule) { return name_of(schedule); }

bool by_steps(const Schedule& schedule) {
  return std::visit([](const auto& s) { return requires { s.by_steps; }; }, schedule);
}

void check(const Schedule& schedule) {
  std::visit([](const auto& s) { s.check(); }, schedule);
}

void StepDecay::check() const {
  require(step_size >= 1, "step_size", static_cast<double>(step_size), "a whole number of epochs >= 1");
  require(gamma > 0, "gamma", gamma, "a number > 0");
}

void ExponentialDecay::check() const { require(gamma > 0, "gamma", gamma, "a number > 0"); }

void CosineDecay::check() const { require(eta_min >= 0, "eta_min", eta_min, "a number >= 0"); }

void OneCycle::check() const {
  require(pct_start >= 0 && pct_start <= 1, "pct_start", pct_start, "a number from 0 to 1");
  require(div_factor > 0, "div_factor", div_factor, "a number > 0");
  require(final_div_factor > 0, "final_div_factor", final_div_factor, "a number > 0");
}

void Warmup::check() const {
  require(epochs >= 1, "epochs", static_cast<double>(epochs), "a whole number >= 1");
  require(start_factor > 0 && start_factor <= 1, "start_factor", start_factor, "a number in (0, 1]");
}

void Plateau::check() const {
  require(factor > 0 && factor < 1, "factor", factor, "a number between 0 and 1");
  require(patience >= 0, "patience", static_cast<double>(patience), "a whole number of epochs >= 0");
  require(threshold >= 0, "threshold", threshold, "a number >= 0");
  require(min_lr >= 0, "min_lr", min_lr, "a number >= 0");
}

double LearningRate::at(const Progress& progress) const {
  return std::visit([&](const auto& schedule) { return schedule.rate(state_.lr, progress); }, schedule_);
}

void LearningRate::epoch_done(double loss) {
  const auto* plateau = std::get_if<Plateau>(&schedule_);
  if (!plateau) return;
  if (loss < state_.best * (1 - plateau->threshold)) {
    state_.best = loss;
    state_.bad_epochs = 0;
  } else if (++state_.bad_epochs > plateau->patience) {
    state_.lr = std::max(state_.lr * plateau->factor, std::min(state_.lr, plateau->min_lr));
    state_.bad_epochs = 0;
  }
}

}  // namespace chainrule
