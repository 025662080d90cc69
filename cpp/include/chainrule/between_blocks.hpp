#pragma once

#include <functional>

namespace chainrule {

/// Called between two blocks of the rows that a long call works through. It may throw to end the call, whose results
/// are then incomplete.
using BetweenBlocks = std::function<void()>;

}  // namespace chainrule
