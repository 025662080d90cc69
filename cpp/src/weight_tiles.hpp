#pragma once

#include <algorithm>

#include "chainrule/network.hpp"
#include "cutting.hpp"

namespace chainrule {

/// Where some rows and columns of [W_l; b_l] lie in what is laid out like θ.
template <class T, class Number>
Rows<Number> tile_place(const Network<T>& network, Index l, Range rows, Range columns, Number* like_theta) {
  const Index units = network.units(l);
  return {like_theta + network.offset(l) + rows.begin * units + columns.begin, units};
}

/// Writes a tile of dL/d[W_l; b_l] to its place in the gradient; or, with `add`, adds it to what is there.
template <class T>
void store_tile(const Network<T>& network, Index l, Range rows, Range columns, Rows<T> tile, T* gradient, bool add) {
  const Rows<T> place = tile_place(network, l, rows, columns, gradient);
  for (Index r = 0; r < rows.size(); ++r) {
    const T* from = tile.row(r);
    T* to = place.row(r);
    for (Index c = 0; c < columns.size(); ++c) to[c] = add ? to[c] + from[c] : from[c];
  }
}

/// The factors of [a 1]ᵀ δ, with the column that stands beside a.
template <class T>
struct WeightFactors {
  MatrixView<T> a;      // (n, d_{l-1})
  MatrixView<T> delta;  // (n, d_l)
};

/// `weight_tiles` of a layer of one unit: its single column, in memory like the row δᵀ [a 1].
template <class T, std::size_t N, class Prepare, class Use>
void single_column_tiles(const WeightFactors<T> (&products)[N], Range tiles, bool announced, const Prepare& prepare,
                         const Use& use) {
  const Kernels<T>& kernel = kernels<T>();
  const Index samples = products[0].a.rows(), inputs = products[0].a.cols();
  alignas(64) T memory[strip_columns<T>];
  for (Index t = tiles.begin; t < tiles.end; ++t) {
    const Range rows = part(inputs + 1, tiles_down<T>(inputs, 1), t), column{0, 1};
    if (announced) prepare(rows, column);
    for (std::size_t i = 0; i < N; ++i) {
      const auto& [a, delta] = products[i];
      kernel.multiply(1, rows.size(), samples, delta.data(), 1, delta.outerStride(),
                      {a.data() + rows.begin, a.outerStride(), kernel.panel}, {memory, rows.size()}, i > 0);
    }
    use(rows, column, Rows<T>{memory, 1});
  }
}

/// The last column of some tiles above each other, where it would be alone in a register: it is summed by itself, with
/// the rows as lanes.
template <class T>
class LoneColumn {
 public:
  LoneColumn(Range rows, Range columns)
      : rows_(rows), column_(columns.end - 1), there_(columns.size() % lanes_ == 1 && rows.size() >= lanes_) {}
  bool there() const { return there_; }

  /// The sum over some samples;  = or, with `add`, +=
  void sum(const WeightFactors<T>& product, Range samples, bool add) {
    const auto& [a, delta] = product;
    kernels<T>().multiply(1, parts_of(rows_.size(), lanes_) * lanes_, samples.size(), &delta(samples.begin, column_), 1,
                          delta.outerStride(), {&a(samples.begin, rows_.begin), a.outerStride(), kernels<T>().panel},
                          {memory_, 0}, add);
  }
  /// Puts the numbers of a tile's rows into its last column.
  void put(Range rows, T* column, Index pitch) const {
    for (Index r = 0; r < rows.size(); ++r) column[r * pitch] = memory_[rows.begin - rows_.begin + r];
  }

 private:
  const Index lanes_ = kernels<T>().panel / 2;
  Range rows_;
  Index column_;
  bool there_;
  alignas(64) T memory_[most_stack_rows + strip_columns<T>];
};

/// Tiles of [a 1]ᵀ δ above each other, or of the sum of several such products, each given to use(rows, columns, tile)
/// and, with `announced`, announced by prepare(rows, columns), some 448 numbers at a time.
template <class T, std::size_t N, class Prepare, class Use>
void weight_tiles(const WeightFactors<T> (&products)[N], Range tiles, Range columns, bool announced,
                  const Prepare& prepare, const Use& use) {
  const Kernels<T>& kernel = kernels<T>();
  const Index n = products[0].a.rows(), inputs = products[0].a.cols(), units = products[0].delta.cols();
  if (units == 1) return single_column_tiles(products, tiles, announced, prepare, use);
  const auto rows_of_tile = [&](Index t) { return part(inputs + 1, tiles_down<T>(inputs, units), t); };
  const Range stack{rows_of_tile(tiles.begin).begin, rows_of_tile(tiles.end - 1).end};
  const Index panel = kernel.panel, pitch = parts_of(columns.size(), panel) * panel;
  const Index panels_at_once =
      announced ? std::max<Index>(1, 448 / (kernel.tile_rows * panel)) : strip_columns<T> / panel;
  const Index piece = panels_at_once * panel;
  // A δ that does not fit the second-level cache comes in order, block by block, or each tile would wait for each row;
  // packed, if there are tiles enough to make up for that.
  const bool packs = n * units > second_level<T> && tiles.size() > 3;
  T* const panels = packs ? workspace<T>(engine::longest_block * strip_columns<T>) : nullptr;
  const Index blocks = engine::sum_blocks(n), all_blocks = static_cast<Index>(N) * blocks;
  LoneColumn<T> lone(stack, columns);
  alignas(64) T memory[most_stack_rows * strip_columns<T>];
  for (Index b = 0; b < all_blocks; ++b) {
    const auto& [a, delta] = products[b / blocks];
    const Range samples = part(n, blocks, b % blocks);
    const bool last = b + 1 == all_blocks;
    Panels<T> block{&delta(samples.begin, columns.begin), delta.outerStride(), panel};
    if (panels) {
      kernel.pack(samples.size(), columns.size(), block.data, block.row_stride, panels);
      block = {panels, panel, samples.size() * panel};
    }
    if (lone.there()) lone.sum(products[b / blocks], samples, b > 0);
    Range rows{stack.begin, stack.begin};
    for (Index t = tiles.begin; t < tiles.end; ++t) {
      rows = {rows.end, rows_of_tile(t).end};
      const Rows<T> tile{memory + (all_blocks > 1 ? rows.begin - stack.begin : 0) * pitch, pitch};
      Panels<T> across = block;
      for (Index c = 0; c < columns.size(); c += piece, across.data += panels_at_once * across.panel_stride) {
        const Range of_piece{columns.begin + c, std::min(columns.begin + c + piece, columns.end)};
        if (last && announced) prepare(rows, of_piece);
        const Index in_tiles = of_piece.size() - (lone.there() && of_piece.end == columns.end);
        kernel.multiply(rows.size(), in_tiles, samples.size(), a.data() + samples.begin * a.outerStride() + rows.begin,
                        1, a.outerStride(), across, tile.columns_from(c), b > 0);
      }
      if (!last) continue;
      if (lone.there()) lone.put(rows, tile.data + columns.size() - 1, pitch);
      use(rows, columns, tile);
    }
  }
}

}  // namespace chainrule
