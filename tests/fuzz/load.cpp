// Any bytes at all: `load` gives a network no larger than they are, or a std::invalid_argument.

#include <chainrule/serialization.hpp>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>

template <class T>
static void try_load(const std::string& bytes) {
  std::istringstream file(bytes);
  try {
    const chainrule::SavedNetwork<T> saved = chainrule::load<T>(file);
    const std::size_t held = static_cast<std::size_t>(saved.network.parameter_count()) * sizeof(T);
    if (held > bytes.size()) std::abort();
  } catch (const std::invalid_argument&) {
  }
}

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try_load<float>(bytes);
  try_load<double>(bytes);
  return 0;
}
