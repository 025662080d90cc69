#pragma once

#include <pybind11/pybind11.h>

#include <utility>
#include <vector>

#include "chainrule/matrix.hpp"
#include "constructed.hpp"

namespace chainrule::bindings {

namespace py = pybind11;

/// Shuffles as `order = sklearn.utils.shuffle(order, random_state=random_state)` does time after time: the order that
/// it drew before, 0 … n-1 at first, by numpy.random.RandomState.shuffle on top of that state's bit generator.
class NumpyShuffles {
 public:
  explicit NumpyShuffles(py::object bit_generator, std::vector<Index> order = {})
      : bit_generator_(std::move(bit_generator)), order_(std::move(order)) {}

  const py::object& bit_generator() const { return bit_generator_; }
  const std::vector<Index>& order() const { return order_; }

  void draw(std::vector<Index>& order);

 private:
  py::object bit_generator_;
  std::vector<Index> order_, places_;
};

}  // namespace chainrule::bindings

template <>
struct pybind11::detail::type_caster<chainrule::bindings::NumpyShuffles>
    : chainrule::bindings::ConstructedCaster<chainrule::bindings::NumpyShuffles> {};
