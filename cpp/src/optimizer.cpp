#include "chainrule/optimizer.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

#include "checks.hpp"
#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"
#include "tensor_sums.hpp"

namespace chainrule {

template <class T>
void Optimizer<T>::set_rule(Rule rule) {
  check(rule);
  rule_ = std::move(rule);
}

template <class T>
void Optimizer<T>::reset() {
  steps_ = 0;
  network_id_ = 0;
  parameter_count_ = 0;
  for (Buffer<T>& moment : moments_) moment = Buffer<T>();
}

template <class T>
void Optimizer<T>::attach(const Network<T>& network) {
  const bool restored = network_id_ == 0 && parameter_count_ != 0;
  if (network_id_ != 0 && network_id_ != network.id())
    throw std::invalid_argument("the optimizer belongs to another network; make a new one or reset() it");
  if (restored && parameter_count_ != network.parameter_count())
    throw std::invalid_argument("the optimizer holds the state of " + std::to_string(parameter_count_) +
                                " parameters; this network has " + std::to_string(network.parameter_count()));
  if (network_id_ == 0) next_constants();
  make_moments(network.parameter_count());
  network_id_ = network.id();
  parameter_count_ = network.parameter_count();
}

template <class T>
UpdateConstants Optimizer<T>::next_constants() const {
  const UpdateConstants constants = std::visit([this](const auto& rule) { return rule.constants(steps_ + 1); }, rule_);
  for (const double constant : constants)
    if (!std::isfinite(static_cast<T>(constant)))
      throw std::invalid_argument(
          "lr, or another setting of the optimizer, is beyond the range of the network's dtype");
  return constants;
}

template <class T>
void Optimizer<T>::step(Network<T>& network, ConstVectorView<T> gradient, std::vector<TensorSums>* sums) {
  check_size(network, "gradient", gradient.size());
  attach(network);
  const UpdateConstants constants = next_constants();
  const auto update = engine::kernels<T>().update[rule_.index()];
  const Index n = network.parameter_count();
  const double operations = 20.0 * static_cast<double>(n);
  T* const theta = network.parameters().data();
  const auto update_range = [&](engine::Range range, engine::Sums* found) {
    T* moments[max_moments];
    for (int m = 0; m < max_moments; ++m) moments[m] = moment(m) ? moment(m) + range.begin : nullptr;
    update(1, range.size(), {gradient.data() + range.begin, 0}, theta + range.begin, moments, 0, constants.data(),
           found);
  };
  if (sums) {
    sums->assign(static_cast<std::size_t>(2 * network.depth()), {});
    add_pieces(network, operations, *sums, [&](TensorSums& of_piece, engine::Range range) {
      engine::Sums found;
      update_range(range, &found);
      add<T>(of_piece, found, 1, range.size(), {gradient.data() + range.begin, 0});
    });
  } else {
    const Index parts = n / 65536 + 1;
    engine::parallel(parts, engine::threads_for(operations),
                     [&](std::ptrdiff_t i) { update_range(engine::part(n, parts, i), nullptr); });
  }
  count_step();
}

template <class T>
void Optimizer<T>::restore(std::int64_t steps, Index parameter_count) {
  reset();
  steps_ = steps;
  parameter_count_ = parameter_count;
  make_moments(parameter_count);
}

template <class T>
T* Optimizer<T>::make_moment(int i, Index size) {
  Buffer<T>& own = moments_[static_cast<std::size_t>(i)];
  if (own.size() != size) own = Buffer<T>(size);
  return moment(i);
}

template <class T>
void Optimizer<T>::make_moments(Index size) {
  const unsigned wanted = std::visit([](const auto& rule) { return rule.moments(); }, rule_);
  for (int i = 0; i < max_moments; ++i)
    if (wanted >> i & 1) make_moment(i, size);
}

template class Optimizer<float>;
template class Optimizer<double>;

}  // namespace chainrule
