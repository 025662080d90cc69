#pragma once

#include <optional>
#include <type_traits>
#include <vector>

#include "chainrule/optimizer.hpp"
#include "tensor_sums.hpp"

namespace chainrule {

/// A step's update of the parameters, of each tile of the gradient as the second sweep makes it.
template <class T>
class TileUpdate {
 public:
  TileUpdate(Network<T>& network, Optimizer<T>& optimizer, double decay, bool summed)
      : network_(network),
        optimizer_(optimizer),
        of_biases_(optimizer.next_constants()),
        of_weights_(of_biases_),
        biases_apart_(decay != 0 || summed) {
    of_weights_[0] += decay;
    if (summed) sums_.emplace(network);
  }

  /// Asks for the parameters and moments of a tile that comes.
  void prefetch(Index l, Range rows, Range columns) const {
    const auto ask = [&](const T* like_theta) {
      const Rows<const T> place = tile_place(network_, l, rows, columns, like_theta);
      kernel_.prefetch(rows.size(), columns.size(), place.data, place.pitch);
    };
    ask(network_.parameters().data());
    for (int i = 0; i < max_moments; ++i)
      if (const T* moment = optimizer_.moment(i)) ask(moment);
  }

  void update(Index l, Range rows, Range columns, Rows<T> tile) {
    const Index bias = network_.units(l - 1);  // the row of b_l
    TensorSums* const sums = sums_ ? &sums_->of_weights(l, rows.begin, columns.begin) : nullptr;
    if (rows.end <= bias || !biases_apart_) return apply(l, rows, columns, tile, of_weights_, sums);
    apply(l, {rows.begin, bias}, columns, tile, of_weights_, sums);
    apply(l, {bias, rows.end}, columns, tile.from(bias - rows.begin), of_biases_,
          sums_ ? &sums_->of_biases(l, columns.begin) : nullptr);
  }

  /// Of W_1, b_1, W_2, …
  std::vector<TensorSums> sums() const {
    std::vector<TensorSums> of_tensors(static_cast<std::size_t>(2 * network_.depth()));
    sums_->add_to(of_tensors);
    return of_tensors;
  }

 private:
  void apply(Index l, Range rows, Range columns, Rows<T> tile, const UpdateConstants& constants, TensorSums* sums) {
    T* const parameters = network_.parameters().data();
    const Rows<T> theta = tile_place(network_, l, rows, columns, parameters);
    T* moments[max_moments];
    for (int i = 0; i < max_moments; ++i)
      moments[i] = optimizer_.moment(i) ? optimizer_.moment(i) + (theta.data - parameters) : nullptr;
    engine::Sums found;
    update_(rows.size(), columns.size(), tile, theta.data, moments, theta.pitch, constants.data(),
            sums ? &found : nullptr);
    if (sums) add<T>(*sums, found, rows.size(), columns.size(), tile);
  }

  const Kernels<T>& kernel_ = kernels<T>();
  Network<T>& network_;
  Optimizer<T>& optimizer_;
  const std::remove_extent_t<decltype(Kernels<T>::update)> update_ = kernel_.update[optimizer_.rule().index()];
  UpdateConstants of_biases_, of_weights_;
  bool biases_apart_;  // from the weights above them in a tile
  std::optional<TileSums<T>> sums_;
};

}  // namespace chainrule
