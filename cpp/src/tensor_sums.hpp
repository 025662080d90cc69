#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "chainrule/network.hpp"
#include "chainrule/tensor_sums.hpp"
#include "engine/kernels.hpp"
#include "engine/thread_pool.hpp"
#include "weight_tiles.hpp"

namespace chainrule {

/// Whether a sum of so many squares that a kernel found has lost nothing to speak of: of a smaller one, squares below
/// the smallest number of T may be what is missing.
template <class T>
bool squares_hold(double squares, Index count) {
  using Limits = std::numeric_limits<T>;
  constexpr double least = static_cast<double>(Limits::min()) / static_cast<double>(Limits::epsilon());
  return std::isfinite(squares) && squares >= least * static_cast<double>(count);
}

/// Adds what a kernel found in a (rows, columns) part of a gradient. Where that is beyond its range, looks again.
template <class T>
void add(TensorSums& sums, const engine::Sums& found, Index rows, Index columns, engine::Rows<const T> gradient);

/// A part of one of the tensors W_1, b_1, W_2, …: where it lies in θ.
struct Piece {
  std::size_t tensor;
  engine::Range range;
};

/// The pieces of all tensors, whatever the number of threads is: sums do not depend on it.
template <class T>
std::vector<Piece> pieces_of(const Network<T>& network);

/// Calls add(sums, range) for each piece in parallel, and adds up what belongs to the same tensor.
template <class T, class Add>
void add_pieces(const Network<T>& network, double operations, std::vector<TensorSums>& sums, const Add& add) {
  const std::vector<Piece> pieces = pieces_of(network);
  std::vector<TensorSums> of_piece(pieces.size());
  engine::parallel(static_cast<std::ptrdiff_t>(pieces.size()), engine::threads_for(operations), [&](std::ptrdiff_t i) {
    const auto at = static_cast<std::size_t>(i);
    add(of_piece[at], pieces[at].range);
  });
  for (std::size_t i = 0; i < pieces.size(); ++i) sums[pieces[i].tensor] += of_piece[i];
}

/// Those of a gradient laid out like θ: of W_1, b_1, W_2, …
template <class T>
std::vector<TensorSums> tensor_sums(const Network<T>& network, const T* gradient);

/// The sums of each tile of the second sweep in a place of its own: so they do not depend on which came first.
template <class T>
class TileSums {
 public:
  explicit TileSums(const Network<T>& network) : network_(network), first_{0} {
    for (Index l = 1; l <= network.depth(); ++l)
      first_.push_back(first_.back() + (tiles_down(network, l) + 1) * tiles_across(network, l));
    sums_.resize(static_cast<std::size_t>(first_.back()));
  }

  /// Of the tile of W_l that begins there.
  TensorSums& of_weights(Index l, Index row, Index column) {
    // Tile t begins at row ⌊t · rows / tiles⌋.
    const Index rows = network_.units(l - 1) + 1, tiles = tiles_down(network_, l);
    return at(l, (row * tiles + rows - 1) / rows, column);
  }
  /// Of the columns of b_l in the tile that begins there.
  TensorSums& of_biases(Index l, Index column) { return at(l, tiles_down(network_, l), column); }

  /// Of W_1, b_1, W_2, …
  void add_to(std::vector<TensorSums>& sums) const {
    for (Index l = 1; l <= network_.depth(); ++l) {
      const Index biases = first_[static_cast<std::size_t>(l)] - tiles_across(network_, l);
      for (Index i = first_[static_cast<std::size_t>(l - 1)]; i < first_[static_cast<std::size_t>(l)]; ++i)
        sums[static_cast<std::size_t>(2 * (l - 1) + (i >= biases))] += sums_[static_cast<std::size_t>(i)];
    }
  }

 private:
  TensorSums& at(Index l, Index tile, Index column) {
    return sums_[static_cast<std::size_t>(first_[static_cast<std::size_t>(l - 1)] + tile * tiles_across(network_, l) +
                                          column / strip_columns<T>)];
  }

  const Network<T>& network_;
  std::vector<Index> first_;  // of each layer
  std::vector<TensorSums> sums_;
};

}  // namespace chainrule
