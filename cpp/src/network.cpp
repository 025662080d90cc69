#include "chainrule/network.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

#include "number.hpp"

namespace chainrule {

static std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

template <class T>
Network<T>::Network(Index inputs, std::vector<Layer> layers)
    : inputs_(inputs), layers_(std::move(layers)), id_(next_id()) {
  if (layers_.empty()) throw std::invalid_argument("a network has at least one layer besides its input");
  if (inputs_ < 1) throw std::invalid_argument("a network has at least 1 input; got " + std::to_string(inputs_));
  Index total = 0;
  for (Index l = 1; l <= depth(); ++l) {
    if (units(l) < 1)
      throw std::invalid_argument("layer " + std::to_string(l) + " has " + std::to_string(units(l)) +
                                  " units; expected at least 1");
    check(activation(l));
    if (l < depth() && output_only(activation(l)))
      throw std::invalid_argument(std::string("activation '") + name(activation(l)) + "' is for the output; layer " +
                                  std::to_string(l) + " is hidden");
    require(dropout(l) >= 0 && dropout(l) < 1, "dropout of layer " + std::to_string(l), dropout(l),
            "a number in [0, 1)");
    if (l == depth() && dropout(l) > 0)
      throw std::invalid_argument("dropout of the output layer is " + text_of(dropout(l)) +
                                  "; only hidden layers have it");
    offsets_.push_back(total);
    if (units(l - 1) == std::numeric_limits<Index>::max() ||
        __builtin_add_overflow(total, checked_product(units(l - 1) + 1, units(l)), &total))
      throw std::length_error("the layers have more parameters than can be counted");
  }
  theta_ = Buffer<T>(total);
}

template <class T>
Network<T>::Network(const Network& other)
    : inputs_(other.inputs_), layers_(other.layers_), offsets_(other.offsets_), theta_(other.theta_), id_(next_id()) {}

template <class T>
Index Network<T>::widest(Index first) const {
  Index result = 0;
  for (Index l = first; l <= depth(); ++l) result = std::max(result, units(l));
  return result;
}

template class Network<float>;
template class Network<double>;

}  // namespace chainrule
