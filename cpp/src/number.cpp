#include "number.hpp"

#include <cmath>
#include <locale>
#include <sstream>

namespace chainrule {

std::string text_of(double value) {
  if (std::isnan(value)) return "nan";
  constexpr int enough = 17;
  for (int digits = 6;; ++digits) {
    std::stringstream stream;
    stream.imbue(std::locale::classic());
    stream.precision(digits);
    stream << value;
    double read = 0;
    if (digits == enough || !std::isfinite(value) || (stream >> read && read == value)) return stream.str();
  }
}

}  // namespace chainrule
