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

/// Tiles of [a 1]ᵀ δ above each other, or of the sum of several such products, each given to use(rows, columns, tile)
/// and, with `announced`, announced by prepare(rows, columns), some 448 numbers at a time.
template <class T, std::size_t N, class Prepare, class Use>
void weight_tiles(const WeightFactors<T> (&products)[N], Range tiles, Range columns, bool announced,
                  const Prepare& prepare, const Use& use) {
  const Kernels<T>& kernel = kernels<T>();
  const MatrixView<T>&a = products[0].a, &delta = products[0].delta;
  const Index all_rows = a.cols() + 1, all_tiles = tiles_down<T>(a.cols(), delta.cols()), panel = kernel.panel;
  alignas(64) T memory[most_stack_rows * strip_columns<T>];
  if (delta.cols() == 1) {  // in memory like the row δᵀ [a 1]
    for (Index t = tiles.begin; t < tiles.end; ++t) {
      const Range rows = part(all_rows, all_tiles, t);
      if (announced) prepare(rows, columns);
      for (std::size_t i = 0; i < N; ++i) {
        const auto& [left, right] = products[i];
        kernel.multiply(1, rows.size(), a.rows(), right.data(), 1, right.outerStride(),
                        {left.data() + rows.begin, left.outerStride(), panel}, {memory, rows.size()}, i > 0);
      }
      use(rows, columns, Rows<T>{memory, 1});
    }
    return;
  }
  const Index pitch = parts_of(columns.size(), panel) * panel;
  const Index first_row = part(all_rows, all_tiles, tiles.begin).begin;
  const Index panels_at_once =
      announced ? std::max<Index>(1, 448 / (kernel.tile_rows * panel)) : strip_columns<T> / panel;
  const Index piece = panels_at_once * panel;
  // A δ that does not fit the second-level cache comes in order, block by block, or each tile would wait for each row;
  // packed, if there are tiles enough to make up for that.
  const bool packs = delta.size() > second_level<T> && tiles.size() > 3;
  // A last column that would be alone in a register is summed with the rows as lanes, like the one of a single column.
  const Index lanes = panel / 2, stack_rows = part(all_rows, all_tiles, tiles.end - 1).end - first_row;
  const bool lone = columns.size() % lanes == 1 && stack_rows >= lanes;
  alignas(64) T last_column[most_stack_rows + strip_columns<T>];
  T* const panels = packs ? workspace<T>(engine::longest_block * strip_columns<T>) : nullptr;
  const Index blocks = engine::sum_blocks(a.rows()), all_blocks = static_cast<Index>(N) * blocks;
  for (Index b = 0; b < all_blocks; ++b) {
    const auto& [left, right] = products[b / blocks];
    const Range samples = part(a.rows(), blocks, b % blocks);
    Panels<T> block{&right(samples.begin, columns.begin), right.outerStride(), panel};
    if (panels) {
      kernel.pack(samples.size(), columns.size(), block.data, block.row_stride, panels);
      block = {panels, panel, samples.size() * panel};
    }
    if (lone)
      kernel.multiply(1, parts_of(stack_rows, lanes) * lanes, samples.size(), &right(samples.begin, columns.end - 1), 1,
                      right.outerStride(), {&left(samples.begin, first_row), left.outerStride(), panel},
                      {last_column, 0}, b > 0);
    const bool last = b + 1 == all_blocks;
    Range rows{first_row, first_row};
    for (Index t = tiles.begin; t < tiles.end; ++t) {
      rows = {rows.end, part(all_rows, all_tiles, t).end};
      const Rows<T> tile{memory + (all_blocks > 1 ? rows.begin - first_row : 0) * pitch, pitch};
      Panels<T> across = block;
      for (Index c = 0; c < columns.size(); c += piece, across.data += panels_at_once * across.panel_stride) {
        const Range of_piece{columns.begin + c, std::min(columns.begin + c + piece, columns.end)};
        if (last && announced) prepare(rows, of_piece);
        const Index in_tiles = of_piece.size() - (lone && of_piece.end == columns.end);
        kernel.multiply(rows.size(), in_tiles, samples.size(),
                        left.data() + samples.begin * left.outerStride() + rows.begin, 1, left.outerStride(), across,
                        tile.columns_from(c), b > 0);
      }
      if (last && lone)
        for (Index r = 0; r < rows.size(); ++r)
          tile.row(r)[columns.size() - 1] = last_column[rows.begin - first_row + r];
      if (last) use(rows, columns, tile);
    }
  }
}

}  // namespace chainrule
