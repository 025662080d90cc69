#include "number.hpp"

#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

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

template std::string text_of(float);
template std::string text_of(double);

}  // namespace chainrule
