#pragma once

#include <string>

#include "chainrule/matrix.hpp"

namespace chainrule {

// What W_l and b_l are called in files and reports, which count layers from 0.

inline std::string weight_name(Index l) { return "layers." + std::to_string(l - 1) + ".weight"; }
inline std::string bias_name(Index l) { return "layers." + std::to_string(l - 1) + ".bias"; }

}  // namespace chainrule
