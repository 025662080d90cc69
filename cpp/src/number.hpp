#pragma once

#include <string>

namespace chainrule {

/// In the fewest digits, six or more, that are read as the same number.
std::string text_of(double value);

}  // namespace chainrule
