#include "chainrule/tape.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "chainrule/random.hpp"
#include "cutting.hpp"

namespace chainrule {

namespace {

Index checked_sum(Index a, Index b) {
  Index result;
  if (__builtin_add_overflow(a, b, &result)) throw std::length_error("the tape is too large to count");
  return result;
}

}  // namespace

/// Calls place(where, l, columns) for each matrix of a tape.
template <class T>
template <class Make>
void Tape<T>::for_each_matrix(const Network<T>& network, TapeContents contents, const Make& place) {
  const Index depth = network.depth();
  for (Index l = 0; l <= depth; ++l) {
    const Index units = network.units(l);
    if (l > 0 || contents.inputs) place(&Tape::activations_, l, units);
    if (network.dropout(l) > 0) {
      place(&Tape::thinned_, l, units);
      place(&Tape::masks_, l, units);
    }
    if (l == 0) continue;
    if (contents.pre_activations || l == depth || needs_z(network.activation(l)))
      place(&Tape::pre_activations_, l, units);
    place(&Tape::deltas_, l, units);
  }
  place(&Tape::targets_, 0, network.outputs());
}

template <class T>
Tape<T>::Tape(const Network<T>& network, Index capacity, TapeContents contents)
    : capacity_(capacity), contents_(contents) {
  const Index depth = network.depth();
  for (auto* places : {&activations_, &pre_activations_, &deltas_, &thinned_, &masks_, &targets_})
    places->resize(static_cast<std::size_t>(depth + 1));
  Index total = 0;
  for_each_matrix(network, contents, [&](auto Tape::* places, Index l, Index columns) {
    const Place p{total, columns, pitch<T>(columns)};
    total = checked_sum(total, checked_product(capacity, p.pitch));
    (this->*places)[static_cast<std::size_t>(l)] = p;
  });
  mask_blocks_.push_back(0);
  for (Index l = 0; l <= depth; ++l) {
    dropout_.push_back(network.dropout(l));
    mask_blocks_.push_back(mask_blocks_.back() + (network.dropout(l) > 0 ? parts_of(network.units(l), mask_block) : 0));
  }

  has_panels_ = fits_packed<T>(network);
  Index panels = 0;
  weight_panels_.resize(static_cast<std::size_t>(depth + 1));
  transposed_panels_.resize(static_cast<std::size_t>(depth + 1));
  for (Index l = 1; has_panels_ && l <= depth; ++l) {
    const Index in = network.units(l - 1), out = network.units(l);
    weight_panels_[static_cast<std::size_t>(l)] = panels;
    panels = checked_sum(panels, panels_size<T>(in + 1, out));
    transposed_panels_[static_cast<std::size_t>(l)] = panels;
    panels = checked_sum(panels, panels_size<T>(out, in));
  }

  memory_ = Buffer<T>(total);
  row_weight_ = Buffer<T>(capacity);
  row_loss_ = Buffer<double>(capacity);
  loss_parameter_ = Buffer<T>(network.outputs());
  panels_ = Buffer<T>(panels);
  for (const auto& places : {activations_, thinned_})
    for (const Place& a : places)
      for (Index r = 0; a.pitch > 0 && r < capacity; ++r) memory_.data()[a.offset + r * a.pitch + a.columns] = T(1);
}

template <class T>
double Tape<T>::row_bytes(const Network<T>& network, TapeContents contents) {
  double numbers = 1;
  for_each_matrix(network, contents,
                  [&](auto, Index, Index columns) { numbers += static_cast<double>(pitch<T>(columns)); });
  return numbers * sizeof(T) + sizeof(double);
}

template <class T>
void Tape<T>::drop_out(Index l, Index first_row, Index last_row, Index first_column, Index last_column) {
  // Sixteen random bits for each unit. The share that they can express is the one that the rest is scaled by.
  const auto limit = static_cast<std::uint64_t>(std::min(65535.0, std::round(65536 * dropout_[l])));
  const auto kept = static_cast<T>(65536.0 / static_cast<double>(65536 - limit));
  MatrixView<T> a = activation(l), m = mask(l), thinned = passed_on(l);
  const Index first_block = first_column / mask_block;
  for (Index r = first_row; r < last_row; ++r) {
    Random random(draw_->seed, draw_->stream,
                  static_cast<std::uint64_t>(draw_->sample(r) * mask_blocks_.back() + mask_blocks_[l] + first_block));
    T* to = m.data() + r * m.outerStride();
    for (Index c = first_block * mask_block; c < last_column; c += 4) {
      const std::uint64_t bits = random.bits();
      for (Index i = 0; i < 4; ++i)
        if (c + i >= first_column && c + i < last_column) to[c + i] = (bits >> 16 * i & 65535) < limit ? T(0) : kept;
    }
    const T* from = a.data() + r * a.outerStride();
    T* passed = thinned.data() + r * thinned.outerStride();
    for (Index c = first_column; c < last_column; ++c) passed[c] = from[c] * to[c];
  }
}

template <class T>
bool Tape<T>::has_layers_of(const Network<T>& network) {
  const Index depth = network.depth();
  if (static_cast<Index>(activations_.size()) != depth + 1) return false;
  for (Index l = 1; l <= depth; ++l)
    if (deltas_[static_cast<std::size_t>(l)].columns != network.units(l) || dropout_[l] != network.dropout(l) ||
        (needs_z(network.activation(l)) && !has_pre_activation(l)))
      return false;
  if (activations_.front().pitch > 0 && activations_.front().columns != network.inputs()) return false;
  network_id_ = network.id();
  return true;
}

template <class T>
Index rows_at_a_time(const Network<T>& network, Index rows, TapeContents contents) {
  // To so many rows it counts little that each part passes over the gradient, which may be near or far.
  constexpr Index fewest_if_near = 128, fewest_if_far = 1024;
  if (rows < 3 * fewest_if_near) return rows;
  const bool near = static_cast<double>(network.parameter_count()) * sizeof(T) <= 3 << 20;
  const double fewest_rows = near ? fewest_if_near : fewest_if_far;
  // Tapes of 3 to 8 MB are as fast as each other; less leaves the threads too little to do at a time.
  constexpr double part_bytes = 4 << 20;
  const double most = std::max(part_bytes / Tape<T>::row_bytes(network, contents), fewest_rows);
  if (static_cast<double>(rows) < 3 * most) return rows;
  return parts_of(rows, parts_of(rows, static_cast<Index>(most)));
}

template class Tape<float>;
template class Tape<double>;
template Index rows_at_a_time(const Network<float>&, Index, TapeContents);
template Index rows_at_a_time(const Network<double>&, Index, TapeContents);

}  // namespace chainrule
