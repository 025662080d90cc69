#pragma once

#include <algorithm>

#include "layout.hpp"

namespace chainrule {

// How the work of a step or a prediction is cut, for the caches and for the threads, and which way through the products
// pays for it.

// Numbers that the caches of one processor hold, of a modest one.
template <class T>
inline constexpr Index first_level = 32 * 1024 / static_cast<Index>(sizeof(T));
template <class T>
inline constexpr Index second_level = 512 * 1024 / static_cast<Index>(sizeof(T));
template <class T>
inline constexpr Index all_levels = 2 * 1024 * 1024 / static_cast<Index>(sizeof(T));

/// Floating-point operations of a forward pass: two for each weight and row. The two products of the backward pass take
/// as many each.
template <class T>
double forward_operations(const Network<T>& network, Index rows) {
  return 2.0 * static_cast<double>(network.parameter_count()) * static_cast<double>(rows);
}

/// Whether the weights of all layers, rearranged for the kernels, stay in the caches of one processor. If not, they are
/// read as seldom as possible: layer by layer, cut by columns.
template <class T>
bool fits_packed(const Network<T>& network) {
  return network.parameter_count() <= all_levels<T>;
}

/// Few rows read each weight but a few times, and few weights stay in the first-level cache as they lie: then
/// rearranging the weights of layer l first does not pay.
template <class T>
bool worth_packing(const Network<T>& network, Index l, Index rows) {
  return rows > 2 * kernels<T>().tile_rows && network.units(l - 1) * network.units(l) > first_level<T>;
}

/// Fetching the weights of layer l takes few rows longer than the products: they had better come as they lie in memory.
template <class T>
bool far_weights(const Network<T>& network, Index l, Index rows) {
  const Index numbers = network.units(l - 1) * network.units(l), tile = kernels<T>().tile_rows;
  return rows < tile ? numbers > second_level<T> : rows <= far_tiles * tile && numbers > 4 * second_level<T>;
}

/// Whether parameters and two moments take most of the second-level cache: then they are likely to be out of it when
/// they are updated, and it pays to ask for them ahead.
template <class T>
bool far_parameters(const Network<T>& network) {
  return network.parameter_count() > 30000;
}

// By rows.

/// How many chunks rows are cut into that go through all layers without meeting another: of rows enough to make up for
/// what is done once a chunk; and as many for each of several threads, two at least where there are tiles enough, so
/// that none waits long for another.
template <class T>
Index chunk_count(Index rows, int threads, Index most_rows = 512) {
  const Index chunks = parts_of(rows, most_rows);
  if (threads == 1) return chunks;
  const Index tiles = parts_of(rows, kernels<T>().tile_rows);
  if (tiles < 2 * threads) return std::min<Index>(tiles, threads);
  return parts_of(std::max<Index>(chunks, 2 * threads), threads) * threads;
}

/// Into how many parts rows of so many numbers are cut that go through all layers without a tape: chunks that stay in
/// the second-level cache; or, of a large network, rows enough to make up for fetching the weights.
template <class T>
Index parts_through(const Network<T>& network, Index rows, Index wide, int threads) {
  constexpr Index most_numbers = Index{2} << 20;
  if (!fits_packed<T>(network))
    return parts_of(rows, std::clamp<Index>(std::max(most_numbers, network.parameter_count()) / wide, 16, 512));
  const Index fewest = std::clamp<Index>(most_numbers / wide, 16, 64);
  return chunk_count<T>(rows, threads, std::clamp<Index>(32768 / wide, fewest, 512));
}

/// Calls through(rows, threads, memory) for those parts, with some numbers of memory for each row: chunks in parallel,
/// each with one thread, or parts of a large network one after another with all threads.
template <class T, class Through>
void through_layers(const Network<T>& network, Index rows, Index parts, int threads, Index numbers,
                    const Through& through) {
  const bool in_chunks = fits_packed<T>(network);
  const auto go = [&](Range of_part) {
    through(of_part, in_chunks ? 1 : threads, workspace<T>(numbers * of_part.size()));
  };
  if (in_chunks)
    parallel(parts, threads, [&](std::ptrdiff_t i) { go(part(rows, parts, i)); });
  else
    for (Index i = 0; i < parts; ++i) go(part(rows, parts, i));
}

// By rows and columns.

/// Calls block(rows, columns) in parallel for blocks of a strip of columns and all rows, which read the weights but
/// once; or, where that makes too few to keep all threads busy to the end, down to half a strip, and then of some rows.
/// Few rows take the weights as they come from memory: then in one block for each thread.
template <class T, class Block>
void in_blocks(Index rows, Index columns, int threads, const Block& block) {
  const bool few = rows <= far_tiles * kernels<T>().tile_rows;
  if (threads == 1) {
    const engine::FlushSubnormals flush;
    const Index strip = few ? columns : strip_columns<T>;
    for (Index c = 0; c < columns; c += strip) block(Range{0, rows}, Range{c, std::min(c + strip, columns)});
    return;
  }
  const Index panel = kernels<T>().panel, panels = parts_of(columns, panel), strip = strip_columns<T> / panel;
  const Index wanted = few ? threads : 4 * threads;
  const Index across = std::clamp(wanted, few ? 1 : parts_of(panels, strip), parts_of(panels, strip / 2));
  const Index down = std::clamp<Index>(rows / (4 * kernels<T>().tile_rows), 1, parts_of(wanted, across));
  parallel(down * across, threads, [&](std::ptrdiff_t i) {
    const Range of_panels = part(panels, across, i / down);
    block(part(rows, down, i % down), Range{of_panels.begin * panel, std::min(columns, of_panels.end * panel)});
  });
}

/// `in_blocks` for what layer l does on its way forward; a function of the whole row wants it whole, unless it is left
/// out as `linear`.
template <class T, class Block>
void in_forward_blocks(const Network<T>& network, Index l, Index rows, int threads, bool linear, const Block& block) {
  const Index units = network.units(l);
  if (linear || !over_row(network.activation(l))) return in_blocks<T>(rows, units, threads, block);
  const Index chunks = chunk_count<T>(rows, threads, rows);
  parallel(chunks, threads, [&](std::ptrdiff_t i) { block(part(rows, chunks, i), Range{0, units}); });
}

// By layers.

/// Calls part(l, i) for the parts i = 0 … parts(l) - 1 of each layer l = first … L, in parallel.
template <class Count, class Part>
void parallel_over_layers(Index first, Index depth, int threads, const Count& parts, const Part& part) {
  if (threads == 1) {
    const engine::FlushSubnormals flush;
    for (Index l = first; l <= depth; ++l)
      for (Index i = 0, count = parts(l); i < count; ++i) part(l, i);
    return;
  }
  Index total = 0;
  for (Index l = first; l <= depth; ++l) total += parts(l);
  parallel(total, threads, [&](std::ptrdiff_t i) {
    Index l = first;
    for (; i >= parts(l); ++l) i -= parts(l);
    part(l, i);
  });
}

// How [dW_l; db_l] = [a_{l-1} 1]ᵀ δ_l is cut: into tiles of the micro-kernel's rows and a strip of columns, or, of a
// single column, into as many rows; and for the threads into stacks of some tiles. Tiles do not depend
// on the number of threads.

template <class T>
Index tiles_down(Index inputs, Index units) {
  return parts_of(inputs + 1, units == 1 ? strip_columns<T> : kernels<T>().tile_rows);
}
template <class T>
Index tiles_down(const Network<T>& network, Index l) {
  return tiles_down<T>(network.units(l - 1), network.units(l));
}
template <class T>
Index tiles_across(const Network<T>& network, Index l) {
  return parts_of(network.units(l), strip_columns<T>);
}

// Tiles above each other share their columns of δ from the second-level cache; as long as there are enough stacks to
// keep all threads busy to the end.
inline constexpr Index most_stack_rows = 192;

/// Calls stack(l, tiles, columns) for the stacks of layers first … L, in parallel.
template <class T, class Stack>
void parallel_over_stacks(const Network<T>& network, Index first, int threads, const Stack& stack) {
  const Index depth = network.depth(), most_tiles = most_stack_rows / kernels<T>().tile_rows;
  Index all_tiles = 0;
  for (Index l = first; l <= depth; ++l) all_tiles += tiles_down(network, l) * tiles_across(network, l);
  const Index stack_tiles = threads == 1 ? most_tiles : std::clamp<Index>(all_tiles / (16 * threads), 1, most_tiles);
  const auto stacks_down = [&](Index l) { return parts_of(tiles_down(network, l), stack_tiles); };
  parallel_over_layers(
      first, depth, threads, [&](Index l) { return stacks_down(l) * tiles_across(network, l); },
      [&](Index l, Index i) {
        const engine::Cell at = engine::cell(i, tiles_across(network, l));
        const Index column = at.column * strip_columns<T>;
        stack(l, part(tiles_down(network, l), stacks_down(l), at.row),
              Range{column, std::min(column + strip_columns<T>, network.units(l))});
      });
}

}  // namespace chainrule
