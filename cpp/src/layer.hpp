#pragma once

#include <algorithm>

#include "chainrule/inputs.hpp"
#include "cutting.hpp"

namespace chainrule {

// One layer forward and back, some rows and columns of it at a time: what steps and predictions share.

template <class T>
Panels<T> packed(const T* panels, Index k) {
  return {panels, kernels<T>().panel, k * kernels<T>().panel};
}

/// Rearranges W_l for the products with it in forward(l), and W_lᵀ in transposed(l), where those are not null, of all
/// layers in parallel; or in place of the weights what is laid out like θ.
template <class T, class Forward, class Transposed>
void pack_weights(const Network<T>& network, const T* theta, int threads, const Forward& forward,
                  const Transposed& transposed) {
  const Kernels<T>& kernel = kernels<T>();
  const Index panel = kernel.panel;
  const auto of_weights = [&](Index l) { return forward(l) ? parts_of(network.units(l), panel) : 0; };
  const auto of_transpose = [&](Index l) { return transposed(l) ? parts_of(network.units(l - 1), panel) : 0; };
  // The other threads' caches are too far away for a few numbers.
  parallel_over_layers(
      1, network.depth(), network.parameter_count() < 16384 ? 1 : threads,
      [&](Index l) { return of_weights(l) + of_transpose(l); },
      [&](Index l, Index i) {
        const Index in = network.units(l - 1), out = network.units(l), across = i - of_weights(l);
        const T* weight = theta + network.offset(l);
        if (across < 0)
          kernel.pack(in + 1, std::min(panel, out - i * panel), weight + i * panel, out,
                      forward(l) + i * panel * (in + 1));
        else
          kernel.pack_transposed(out, std::min(panel, in - across * panel), weight + across * panel * out, out,
                                 transposed(l) + across * panel * out);
      });
}

template <class T>
T* no_panels(Index /* l */) {
  return nullptr;
}

/// The products with the weights of layer l, or with what is laid out like them; rearranged in `panels`, or as they
/// lie.
template <class T>
struct Weights {
  const Network<T>& network;
  Index l;
  const T* panels;                             // or nullptr
  const T* weight = network.weight(l).data();  // (d_{l-1} + 1, d_l)
  bool padded = true;                          // whether a register's numbers may be read from the last one on

  /// Columns of z_l = [a_{l-1} 1] [W_l; b_l], or without `bias` of a_{l-1} W_l;  = or, with `add`, +=
  void forward(Index count, Rows<const T> a, Range columns, Rows<T> z, bool bias = true, bool add = false) const {
    const Kernels<T>& kernel = kernels<T>();
    const Index inputs = network.units(l - 1), units = network.units(l), k = bias ? inputs + 1 : inputs;
    const T* from = weight + columns.begin;
    const Index n = without_lone_column(count, a, k, columns.size(), from, units, 1, z, add);
    if (n == 0) return;
    if (panels)
      kernel.multiply(count, n, k, a.data, a.pitch, 1, packed<T>(panels + columns.begin * (inputs + 1), inputs + 1), z,
                      add);
    else if (far_weights(network, l, count))
      kernel.multiply_far(count, n, k, a.data, a.pitch, from, units, z, add);
    else if (worth_packing(network, l, count) || !padded)
      kernel.multiply_large(count, n, k, a.data, a.pitch, from, units, z, add);
    else
      kernel.multiply(count, n, k, a.data, a.pitch, 1, {from, units, kernel.panel}, z, add);
  }

  /// Columns of dL/da_{l-1} = δ_l W_lᵀ, with the panels of W_lᵀ;  = or, with `add`, +=
  void backward(Index count, Rows<const T> delta, Range columns, Rows<T> to, bool add = false) const {
    const Kernels<T>& kernel = kernels<T>();
    const Index k = network.units(l);
    const T* from = weight + columns.begin * k;
    const Index n = without_lone_column(count, delta, k, columns.size(), from, 1, k, to, add);
    if (n == 0) return;
    if (panels)
      kernel.multiply(count, n, k, delta.data, delta.pitch, 1, packed<T>(panels + columns.begin * k, k), to, add);
    else
      kernel.multiply_large_transposed(count, n, k, delta.data, delta.pitch, from, k, to, add);
  }

 private:
  /// Takes the last of the columns of A B that would be alone in a register by itself, and returns how many are left.
  /// Of short sums, adding up the lanes takes longer than it saves.
  static Index without_lone_column(Index count, Rows<const T> A, Index k, Index columns, const T* B, Index row_stride,
                                   Index column_stride, Rows<T> to, bool add) {
    const Kernels<T>& kernel = kernels<T>();
    if (k < 16 || columns % (kernel.panel / 2) != 1) return columns;
    kernel.multiply_column(count, k, A.data, A.pitch, B + (columns - 1) * column_stride, row_stride,
                           to.columns_from(columns - 1), add);
    return columns - 1;
  }
};

/// Columns of a_l = σ_l(z_l), with z_l from product(z). z and a may be the same memory; with `linear` a is not written.
/// Gives the largest |a_l| to `see`.
template <class T, class Product, class See>
void layer_forward(const Network<T>& network, Index l, Index count, Range columns, Rows<T> z, Rows<T> a, bool linear,
                   const Product& product, const See& see) {
  const Activation& activation = network.activation(l);
  const Rows<T> of_columns = z.columns_from(columns.begin);
  product(of_columns);
  if (!linear)
    see(kernels<T>().activate[activation.index()](count, columns.size(), of_columns, a.columns_from(columns.begin),
                                                  static_cast<T>(parameter(activation))));
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
