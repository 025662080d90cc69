#pragma once

#include <string>

namespace chainrule {

/// In the fewest digits, six or more, that are read as the same number of T: float or double.
template <class T>
std::string text_of(T value);

}  // namespace chainrule
