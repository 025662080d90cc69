#include "chainrule/tape.hpp"

#include <limits>
#include <stdexcept>

#include "engine/kernels.hpp"
#include "layout.hpp"

namespace chainrule {

namespace {

Index checked_sum(Index a, Index b) {
  Index result;
  if (__builtin_add_overflow(a, b, &result)) throw std::length_error("the tape is too large to count");
  return result;
}

Index panels_size(Index rows, Index columns, Index panel) {
  return checked_product(rows, (columns + panel - 1) / panel * panel);
}

}  // namespace

template <class T>
Tape<T>::Tape(const Network<T>& network, Index capacity, bool keep_pre_activations)
    : capacity_(capacity), keep_pre_activations_(keep_pre_activations) {
  const Index depth = network.depth();
  Index total = 0;
  const auto place = [&](Index columns) {
    Place p{total, columns, pitch<T>(columns)};
    total = checked_sum(total, checked_product(capacity, p.pitch));
    return p;
  };
  pre_activations_.resize(static_cast<std::size_t>(depth + 1));
  deltas_.resize(static_cast<std::size_t>(depth + 1));
  for (Index l = 0; l <= depth; ++l) {
    activations_.push_back(place(network.units(l)));
    if (l == 0) continue;
    if (keep_pre_activations || l == depth || needs_z(network.activation(l)))
      pre_activations_[static_cast<std::size_t>(l)] = place(network.units(l));
    deltas_[static_cast<std::size_t>(l)] = place(network.units(l));
  }
  target_ = place(network.outputs());

  has_panels_ = fits_packed<T>(network);
  const Index panel = engine::kernels<T>().panel;
  Index panels = 0;
  weight_panels_.resize(static_cast<std::size_t>(depth + 1));
  transposed_panels_.resize(static_cast<std::size_t>(depth + 1));
  for (Index l = 1; has_panels_ && l <= depth; ++l) {
    const Index in = network.units(l - 1), out = network.units(l);
    weight_panels_[static_cast<std::size_t>(l)] = panels;
    panels = checked_sum(panels, panels_size(in + 1, out, panel));
    transposed_panels_[static_cast<std::size_t>(l)] = panels;
    panels = checked_sum(panels, panels_size(out, in, panel));
  }

  memory_ = Buffer<T>(total);
  row_weight_ = Buffer<T>(capacity);
  row_loss_ = Buffer<double>(capacity);
  loss_parameter_ = Buffer<T>(network.outputs());
  panels_ = Buffer<T>(panels);
  for (Index l = 0; l <= depth; ++l) {
    const Place& a = activations_[static_cast<std::size_t>(l)];
    for (Index r = 0; r < capacity; ++r) memory_.data()[a.offset + r * a.pitch + a.columns] = T(1);
  }
}

template class Tape<float>;
template class Tape<double>;

}  // namespace chainrule
