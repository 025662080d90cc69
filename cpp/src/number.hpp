#pragma once

#include <string>

namespace chainrule {

/// In the fewest digits, six or more, that are read as the same number of T: float or double.
template <class T>
std::string text_of(T value);

/// std::invalid_argument, "`what` is 3; expected `expected`", unless the value is right and finite.
void require(bool right, const std::string& what, double value, const std::string& expected);

}  // namespace chainrule
