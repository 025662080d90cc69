#pragma once

#include <cstddef>

/// Inlined always: what is compiled for one instruction set must not become everybody's copy.
#define CHAINRULE_INLINE inline __attribute__((always_inline))

namespace chainrule::engine {

using Size = std::ptrdiff_t;

/// Items begin … end - 1.
struct Range {
  Size begin, end;
  CHAINRULE_INLINE constexpr Size size() const { return end - begin; }
  CHAINRULE_INLINE constexpr Range shifted(Size by) const { return {begin + by, end + by}; }
};

// How work is cut. A division takes as long as twenty other operations, and a step of a small network, where mostly
// there is but one part, would make dozens of them.

/// Parts of at most `most` items that `count` items make.
CHAINRULE_INLINE constexpr Size parts_of(Size count, Size most) {
  return count <= most ? Size{count > 0} : 1 + (count - 1) / most;
}

/// Part i of `count` items cut into `parts` even parts.
CHAINRULE_INLINE constexpr Range part(Size count, Size parts, Size i) {
  return {i == 0 ? 0 : count * i / parts, i + 1 == parts ? count : count * (i + 1) / parts};
}

/// Cell i of a grid of so many columns, counted row by row.
struct Cell {
  Size row, column;
};
CHAINRULE_INLINE constexpr Cell cell(Size i, Size columns) {
  return columns == 1 ? Cell{i, 0} : Cell{i / columns, i % columns};
}

}  // namespace chainrule::engine
