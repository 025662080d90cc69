#pragma once

#include <string>
#include <string_view>

namespace chainrule {

/// In the fewest digits, six or more, that are read as the same number of T: float or double.
template <class T>
std::string text_of(T value);

/// std::invalid_argument, "`what` is 3; expected `expected`", unless the value is right and finite.
void require(bool right, std::string_view what, double value, std::string_view expected);

}  // namespace chainrule
