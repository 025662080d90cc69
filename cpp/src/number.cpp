#include "number.hpp"

#include <cmath>
#include <limits>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace chainrule {

template <class T>
std::string text_of(T value) {
  if (std::isnan(value)) return "nan";
  for (int digits = 6;; ++digits) {
    std::stringstream stream;
    stream.imbue(std::locale::classic());
    stream.precision(digits);
    stream << value;
    T read = 0;
    if (digits == std::numeric_limits<T>::max_digits10 || !std::isfinite(value) || (stream >> read && read == value))
      return stream.str();
  }
}

void require(bool right, const std::string& what, double value, const std::string& expected) {
  if (!right || !std::isfinite(value))
    throw std::invalid_argument(what + " is " + text_of(value) + "; expected " + expected);
}

template std::string text_of(float);
template std::string text_of(double);

}  // namespace chainrule
