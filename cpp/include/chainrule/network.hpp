#pragma once

#include <cstdint>
#include <vector>

#include "chainrule/activation.hpp"
#include "chainrule/matrix.hpp"

namespace chainrule {

/// One layer of the chain: a_l = σ_l(a_{l-1} W_l + b_l).
struct Layer {
  Index units;  // d_l
  Activation activation;
  double dropout = 0;  // share of the units that a training step leaves out; of hidden layers only
};

/// A chain of layers and its parameters θ.
///
/// θ is one vector, tightly packed as W_1, b_1, W_2, b_2, …, so that an optimizer is one loop over it, and so that
/// [W_l; b_l], W_l with b_l as one more row, is a matrix that lies in it: with a column of ones beside a_{l-1},
/// z_l = [a_{l-1} 1] [W_l; b_l] and [dW_l; db_l] = [a_{l-1} 1]ᵀ δ_l.
///
/// Layers are numbered l = 1 … L as in the textbook; l = 0 is the input. A new network's parameters are zero.
template <class T>
class Network {
 public:
  /// std::invalid_argument for no layers, a size below 1, an output activation in a hidden layer, or dropout at the
  /// output; std::length_error / std::bad_alloc for more parameters than can be counted / held.
  Network(Index inputs, std::vector<Layer> layers);
  Network(const Network& other);
  Network& operator=(const Network&) = delete;

  Index depth() const { return static_cast<Index>(layers_.size()); }  // L
  Index units(Index l) const { return l == 0 ? inputs_ : layers_[l - 1].units; }
  Index inputs() const { return inputs_; }
  Index outputs() const { return units(depth()); }
  Index widest(Index first = 0) const;  // max d_l over l ≥ first
  const Activation& activation(Index l) const { return layers_[l - 1].activation; }
  double dropout(Index l) const { return l == 0 ? 0 : layers_[l - 1].dropout; }
  const std::vector<Layer>& layers() const { return layers_; }

  Index parameter_count() const { return theta_.size(); }
  VectorView<T> parameters() { return {theta_.data(), theta_.size()}; }
  ConstVectorView<T> parameters() const { return {theta_.data(), theta_.size()}; }

  /// Where [W_l; b_l] starts in θ and in every vector laid out like it.
  Index offset(Index l) const { return offsets_[l - 1]; }
  /// [W_l; b_l], (d_{l-1} + 1, d_l)
  MatrixView<T> weight_and_bias(Index l) { return rows_of(parameters(), l, units(l - 1) + 1); }
  ConstMatrixView<T> weight_and_bias(Index l) const { return rows_of(parameters(), l, units(l - 1) + 1); }
  /// W_l, (d_{l-1}, d_l)
  MatrixView<T> weight(Index l) { return rows_of(parameters(), l, units(l - 1)); }
  ConstMatrixView<T> weight(Index l) const { return rows_of(parameters(), l, units(l - 1)); }
  /// b_l, (d_l,)
  VectorView<T> bias(Index l) { return {theta_.data() + bias_offset(l), units(l)}; }
  ConstVectorView<T> bias(Index l) const { return {theta_.data() + bias_offset(l), units(l)}; }
  Index bias_offset(Index l) const { return offset(l) + units(l - 1) * units(l); }

  /// Differs between any two networks of a process.
  std::uint64_t id() const { return id_; }

 private:
  MatrixView<T> rows_of(VectorView<T> flat, Index l, Index rows) const {
    return {flat.data() + offset(l), rows, units(l), Eigen::OuterStride<>(units(l))};
  }
  ConstMatrixView<T> rows_of(ConstVectorView<T> flat, Index l, Index rows) const {
    return {flat.data() + offset(l), rows, units(l), Eigen::OuterStride<>(units(l))};
  }

  Index inputs_;
  std::vector<Layer> layers_;
  std::vector<Index> offsets_;
  Buffer<T> theta_;
  std::uint64_t id_;
};

extern template class Network<float>;
extern template class Network<double>;

}  // namespace chainrule
