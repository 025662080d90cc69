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

void require(bool right, std::string_view what, double value, std::string_view expected) {
  if (right && std::isfinite(value)) return;
  throw std::invalid_argument(std::string(what) + " is " + text_of(value) + "; expected " + std::string(expected));
}

template std::string text_of(float);
template std::string text_of(double);

}  // namespace chainrule
