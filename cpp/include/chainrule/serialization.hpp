#pragma once

#include <cstdint>
#include <filesystem>
#include <istream>

#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"

namespace chainrule {

/// A network with what its file says besides.
template <class T>
struct SavedNetwork {
  Network<T> network;
  Loss loss;
  std::uint64_t seed;    // of the shuffles
  Index epochs_trained;  // likewise: where they go on
};

// Files are safetensors, the same ones as Python's MLP.save and MLP.load: W_l (d_{l-1}, d_l) and b_l as tensors, the
// architecture as JSON in the header. A checkpoint of Python's fit is such a file too.

/// Writes a file, whole or not at all. std::invalid_argument for parameters that are not finite,
/// std::filesystem::filesystem_error where it cannot be written; an existing file then stays as it was.
template <class T>
void save(const Network<T>& network, const Loss& loss, const std::filesystem::path& path, std::uint64_t seed = 0,
          Index epochs_trained = 0);

/// Reads a file, checking all of its header before anything is allocated. std::invalid_argument that says what is wrong
/// with it, its numbers being of the other type included; std::filesystem::filesystem_error where it cannot be read.
template <class T>
SavedNetwork<T> load(const std::filesystem::path& path);
/// The same from a stream that can seek, from its beginning to its end.
template <class T>
SavedNetwork<T> load(std::istream& file);

}  // namespace chainrule
