#pragma once

#include <algorithm>

#include "chainrule/between_blocks.hpp"
#include "layout.hpp"

namespace chainrule {

/// Rows that take no more than a tenth of a second or so; but enough to make up for fetching all weights, which meet as
/// many rows as there are seeds for each of these.
inline Index rows_of_block(double operations_per_row, Index seeds = 1) {
  const auto fewest = static_cast<double>(parts_of(256, seeds));
  return static_cast<Index>(std::clamp(1e10 / operations_per_row, fewest, 1e15));
}

/// Calls block(rows) for at most so many rows at a time, and no more than `rows_of_block`.
template <class Block>
void in_row_blocks(Index rows, Index most, double operations_per_row, const BetweenBlocks& between, const Block& block,
                   Index seeds = 1) {
  const Index blocks = parts_of(rows, std::min(most, rows_of_block(operations_per_row, seeds)));
  for (Index i = 0; i < blocks; ++i) {
    if (i > 0 && between) between();
    block(part(rows, blocks, i));
  }
}

}  // namespace chainrule
