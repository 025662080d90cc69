#include "numpy_shuffles.hpp"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>

#include "interpreter.hpp"
#include "register.hpp"

namespace chainrule::bindings {

namespace {

/// bitgen_t of numpy/random/bitgen.h
struct BitGenerator {
  void* state;
  std::uint64_t (*next_uint64)(void*);
  std::uint32_t (*next_uint32)(void*);
  double (*next_double)(void*);
  std::uint64_t (*next_raw)(void*);
};

/// A number from 0 to `most`: the lowest bits of as many draws as it takes.
std::uint64_t at_most(std::uint64_t most, const BitGenerator& generator) {
  const std::uint64_t mask = ~std::uint64_t{0} >> __builtin_clzll(most);
  for (;;) {
    const std::uint64_t bits =
        most <= 0xffffffff ? generator.next_uint32(generator.state) : generator.next_uint64(generator.state);
    if (const std::uint64_t number = bits & mask; number <= most) return number;
  }
}

void fill(std::vector<Index>& order, std::size_t n) {
  order.resize(n);
  std::iota(order.begin(), order.end(), Index{0});
}

}  // namespace

void NumpyShuffles::draw(std::vector<Index>& order) {
  if (order_.size() != order.size()) fill(order_, order.size());
  fill(places_, order.size());
  {
    const Acquired interpreter;
    const py::capsule capsule = bit_generator_.attr("capsule");
    const BitGenerator& generator = *capsule.get_pointer<BitGenerator>();
    const py::object lock = bit_generator_.attr("lock");  // which others that draw from it hold
    lock.attr("acquire")();
    for (std::size_t i = places_.size(); i-- > 1;)
      std::swap(places_[i], places_[static_cast<std::size_t>(at_most(i, generator))]);
    lock.attr("release")();
  }
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = order_[static_cast<std::size_t>(places_[i])];
  order_ = order;
}

void register_numpy_shuffles(py::module_& module) {
  py::class_<NumpyShuffles, std::shared_ptr<NumpyShuffles>>(module, "NumpyShuffles")
      .def(py::init<py::object>(), py::arg("bit_generator"))
      .def(py::pickle([](const NumpyShuffles& of) { return py::make_tuple(of.bit_generator(), of.order()); },
                      [](const py::tuple& state) {
                        return std::make_shared<NumpyShuffles>(state[0], state[1].cast<std::vector<Index>>());
                      }));
}

}  // namespace chainrule::bindings
