#pragma once

#include <algorithm>

#include "layout.hpp"

namespace chainrule {

// One layer forward and back, some rows and columns of it at a time: what steps and predictions share.

/// Floating-point operations of a forward pass: two for each weight and row. The two products of the backward pass take
/// as many each.
template <class T>
double forward_operations(const Network<T>& network, Index rows) {
  return 2.0 * static_cast<double>(network.parameter_count()) * static_cast<double>(rows);
}

/// Rows are cut into chunks that stay in the caches on their way through the layers, as many for each thread.
template <class T>
Index chunk_count(Index rows, int threads) {
  const Index largest = 4 * kernels<T>().tile_rows;
  const Index chunks = parts_of(rows, largest);
  // Four for each thread even out what else the machine does; less than a tile's rows would cost more than that.
  const Index even = std::min<Index>(4 * threads, rows / kernels<T>().tile_rows);
  const Index wanted = threads > 1 ? std::max(chunks, even) : chunks;
  return std::min(rows, parts_of(wanted, threads) * threads);
}

/// Few rows read each weight but a few times, and few weights stay in the first-level cache as they lie: then
/// rearranging the weights of layer l first does not pay.
template <class T>
bool worth_packing(const Network<T>& network, Index l, Index rows) {
  constexpr Index near = 32 * 1024 / sizeof(T);
  return rows > 2 * kernels<T>().tile_rows && network.units(l - 1) * network.units(l) > near;
}

template <class T>
Panels<T> packed(const T* panels, Index k) {
  return {panels, kernels<T>().panel, k * kernels<T>().panel};
}

/// The products with the weights of layer l find them rearranged in `panels`, or where they lie.
template <class T>
struct Weights {
  const Network<T>& network;
  Index l;
  const T* panels;  // or nullptr
  bool large;       // too large to be rearranged as a whole

  /// Columns of z_l = [a_{l-1} 1] [W_l; b_l]
  void forward(Index count, Rows<const T> a, Range columns, Rows<T> z) const {
    const Kernels<T>& kernel = kernels<T>();
    const Index k = network.units(l - 1) + 1, units = network.units(l);
    const T* weight = network.weight(l).data() + columns.begin;
    if (panels)
      kernel.multiply(count, columns.size(), k, a.data, a.pitch, 1, packed<T>(panels + columns.begin * k, k), z, false);
    else if (large && worth_packing(network, l, count))
      kernel.multiply_large(count, columns.size(), k, a.data, a.pitch, weight, units, z, false);
    else
      kernel.multiply(count, columns.size(), k, a.data, a.pitch, 1, {weight, units, kernel.panel}, z, false);
  }

  /// Columns of dL/da_{l-1} = δ_l W_lᵀ, with the panels of W_lᵀ.
  void backward(Index count, Rows<const T> delta, Range columns, Rows<T> to) const {
    const Kernels<T>& kernel = kernels<T>();
    const Index k = network.units(l);
    if (panels)
      kernel.multiply(count, columns.size(), k, delta.data, delta.pitch, 1, packed<T>(panels + columns.begin * k, k),
                      to, false);
    else
      kernel.multiply_large_transposed(count, columns.size(), k, delta.data, delta.pitch,
                                       network.weight(l).data() + columns.begin * k, k, to, false);
  }
};

/// Rows to take through a product and the element-wise function behind it at a time: as many as one tile has, so that
/// the first-level cache still holds them, unless the weights have to come from afar for each.
template <class T>
Index strip_count(const Network<T>& network, Index rows, Index weights) {
  constexpr Index near = 512 * 1024 / sizeof(T);
  return !fits_packed<T>(network) || weights > near ? 1 : parts_of(rows, kernels<T>().tile_rows);
}

/// Columns of a_l = σ_l(z_l), with z_l from `product` strip by strip. z and a may be the same memory; with `linear` a
/// is not written. Gives the largest |a_l| of each strip to `see`.
template <class T, class Product, class See>
void layer_forward(const Network<T>& network, Index l, Index count, Range columns, Rows<T> z, Rows<T> a, bool linear,
                   const Product& product, const See& see) {
  const Activation& activation = network.activation(l);
  const auto activate = kernels<T>().activate[activation.index()];
  const auto parameter_ = static_cast<T>(parameter(activation));
  const Index strips = strip_count(network, count, columns.size() * network.units(l - 1));
  for (Index s = 0; s < strips; ++s) {
    const Range strip = part(count, strips, s);
    const Rows<T> z_strip = z.from(strip.begin).columns_from(columns.begin);
    product(strip, z_strip);
    if (!linear)
      see(activate(strip.size(), columns.size(), z_strip, a.from(strip.begin).columns_from(columns.begin), parameter_));
  }
  if (columns.end == network.units(l))
    for (Index r = 0; r < count; ++r) a.row(r)[columns.end] = T(1);
}

/// Columns of z_1 = x W_1 + b_1 for one sparse sample x.
template <class T>
void sparse_product(const Network<T>& network, typename Inputs<T>::Stored x, Range columns, T* z) {
  std::copy_n(network.bias(1).data() + columns.begin, columns.size(), z);
  kernels<T>().gather_rows(x.count, x.columns, x.values, columns.size(), network.weight(1).data() + columns.begin,
                           network.units(1), z);
}

}  // namespace chainrule
