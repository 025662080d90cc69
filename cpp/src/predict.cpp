#include "chainrule/predict.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "layer.hpp"
#include "loss_mean.hpp"

namespace chainrule {

namespace {

/// Runs chunks of rows through the network without a tape: use(rows, a_L, targets), or z_L for a_L if `logits`, where
/// `targets` is room for as many rows.
template <class T, class Use>
void stream(const Network<T>& network, const Inputs<T>& X, bool logits, const Use& use) {
  const Index n = X.rows();
  const Index depth = network.depth();
  const int threads = threads_for(forward_operations(network, n));
  const Index chunks = chunk_count<T>(n, threads);
  const Index chunk_rows = parts_of(n, chunks);
  const Index wide = pitch<T>(network.widest());
  const bool large = !fits_packed<T>(network);
  const auto panels_size = [&](Index l) {
    if (large || !worth_packing(network, l, n)) return Index{0};
    return (network.units(l - 1) + 1) * parts_of(network.units(l), kernels<T>().panel) * kernels<T>().panel;
  };
  Index total = 0;
  for (Index l = 1; l <= depth; ++l) total += panels_size(l);
  Buffer<T> panels(total);
  T* next = panels.data();
  for (Index l = 1; l <= depth; next += panels_size(l), ++l)
    if (panels_size(l) > 0)
      kernels<T>().pack(network.units(l - 1) + 1, network.units(l), network.weight(l).data(), network.units(l), next);
  parallel(chunks, threads, [&](std::ptrdiff_t chunk) {
    const Range rows = part(n, chunks, chunk);
    T* memory = workspace<T>(3 * chunk_rows * wide);
    Rows<T> before{memory, wide}, after{memory + chunk_rows * wide, wide};
    const Rows<T> targets{memory + 2 * chunk_rows * wide, wide};
    for (Index r = 0; r < rows.size() && !X.mostly_zeros(); ++r) {
      X.load(rows.begin + r, before.row(r));
      before.row(r)[X.cols()] = T(1);
    }
    const T* next_panels = panels.data();
    for (Index l = 1; l <= depth; ++l) {
      const Range columns{0, network.units(l)};
      const T* packed = panels_size(l) > 0 ? next_panels : nullptr;
      layer_forward<T>(
          network, l, rows.size(), columns, after, after, logits && l == depth,
          [&](Range strip, Rows<T> z) {
            if (l > 1 || !X.mostly_zeros())
              return Weights<T>{network, l, packed, large}.forward(strip.size(), before.from(strip.begin), columns, z);
            for (Index r = 0; r < strip.size(); ++r)
              sparse_product<T>(network, X.stored(rows.begin + strip.begin + r), columns, z.row(r));
          },
          [](T) {});
      next_panels += panels_size(l);
      std::swap(before, after);
    }
    use(rows, before, targets);
  });
}

template <class T>
void predict_inputs(const Network<T>& network, const Inputs<T>& X, T* output) {
  if (X.rows() == 0) return;
  stream<T>(network, X, false, [&](Range rows, Rows<T> a, Rows<T>) {
    for (Index r = 0; r < rows.size(); ++r)
      std::copy_n(a.row(r), network.outputs(), output + (rows.begin + r) * network.outputs());
  });
}

/// The loss of each sample, summed over its outputs where it is their mean.
template <class T>
Vector<double> sample_losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  const Index outputs = network.outputs();
  Buffer<T> loss_parameter(outputs);
  fill_loss_parameters(loss, outputs, loss_parameter.data());
  Vector<double> row_loss(samples.X.rows());
  stream<T>(network, samples.X, from_logits(loss), [&](Range rows, Rows<T> x, Rows<T> targets) {
    for (Index r = 0; r < rows.size(); ++r) samples.y.load(rows.begin + r, outputs, targets.row(r));
    kernels<T>().loss[loss.index()](rows.size(), outputs, x, targets, loss_parameter.data(), T(1), nullptr,
                                    row_loss.data() + rows.begin, {nullptr, 0});
  });
  return row_loss;
}

}  // namespace

template <class T>
void predict(const Network<T>& network, const MatrixArgument<T>& X, T* output) {
  predict_inputs<T>(network, view_of<T>(X), output);
}

template <class T>
void predict(const Network<T>& network, const SparseRows<T>& X, T* output) {
  predict_inputs<T>(network, X, output);
}

template <class T>
Vector<double> losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  return sample_losses(network, loss, samples) / mean_divisor(loss, network.outputs(), 1);
}

template <class T>
double evaluate(const Network<T>& network, const Loss& loss, const Samples<T>& samples) {
  const Batch<T> batch{samples, samples.X.rows()};
  if (batch.size < 1) throw std::invalid_argument("X has no rows; expected at least one");
  const Vector<double> row_loss = sample_losses(network, loss, samples);
  return weighted_mean(batch, row_loss.data(), mean_divisor(loss, network.outputs(), batch.weight()));
}

#define CHAINRULE_INSTANTIATE(T)                                                     \
  template void predict(const Network<T>&, const MatrixArgument<T>&, T*);            \
  template void predict(const Network<T>&, const SparseRows<T>&, T*);                \
  template Vector<double> losses(const Network<T>&, const Loss&, const Samples<T>&); \
  template double evaluate(const Network<T>&, const Loss&, const Samples<T>&);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
