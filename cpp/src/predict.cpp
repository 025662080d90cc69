#include "chainrule/predict.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "layer.hpp"
#include "loss_mean.hpp"
#include "row_blocks.hpp"

namespace chainrule {

namespace {

/// How rows go through the network without a tape: in parts, of a few matrices as wide as the widest layer.
template <class T>
struct Plan {
  Index wide, parts, panels = 0;  // the last in numbers: the weights, rearranged once for several chunks
  int threads;

  Plan(const Network<T>& network, Index rows, bool sparse)
      : wide(pitch<T>(network.widest(sparse ? 1 : 0))), threads(threads_for(forward_operations(network, rows))) {
    parts = parts_through(network, rows, wide, threads);
    for (Index l = 1; l <= network.depth(); ++l) panels += panels_of(network, l, rows);
  }
  Index panels_of(const Network<T>& network, Index l, Index rows) const {
    return parts > 1 && fits_packed<T>(network) && worth_packing(network, l, rows)
               ? panels_size<T>(network.units(l - 1) + 1, network.units(l))
               : 0;
  }
  static constexpr Index matrices = 3;  // in, out and targets
};

/// Takes the rows through the network without a tape: use(rows, a_L, targets), or z_L for a_L if `logits`, where
/// `targets` is room for as many rows.
template <class T, class Use>
void stream_block(const Network<T>& network, const Inputs<T>& X, bool logits, const Use& use) {
  const Index n = X.rows(), depth = network.depth();
  const Plan<T> plan(network, n, X.mostly_zeros());
  const Index wide = plan.wide;
  Buffer<T> memory_of_panels(plan.panels);
  std::vector<T*> panels;
  const auto panels_of = [&](Index l) { return panels.empty() ? nullptr : panels[static_cast<std::size_t>(l)]; };
  if (plan.panels > 0) {
    panels.assign(static_cast<std::size_t>(depth) + 1, nullptr);
    T* next = memory_of_panels.data();
    for (Index l = 1; l <= depth; ++l)
      if (const Index size = plan.panels_of(network, l, n); size > 0) {
        panels[static_cast<std::size_t>(l)] = next;
        next += size;
      }
    pack_weights(network, network.parameters().data(), plan.threads, panels_of, no_panels<T>);
  }
  through_layers(network, n, plan.parts, plan.threads, plan.matrices * wide, [&](Range rows, int threads, T* memory) {
    const Index count = rows.size();
    Rows<T> before{memory, wide}, after{memory + count * wide, wide};
    const Rows<T> targets{memory + 2 * count * wide, wide};
    for (Index r = 0; r < count && !X.mostly_zeros(); ++r) {
      X.load(rows.begin + r, before.row(r));
      before.row(r)[X.cols()] = T(1);
    }
    for (Index l = 1; l <= depth; ++l) {
      const Weights<T> weights{network, l, panels_of(l)};
      const bool linear = logits && l == depth;
      in_forward_blocks(network, l, count, threads, linear, [&](Range part_of, Range columns) {
        const Rows<T> from = before.from(part_of.begin), to = after.from(part_of.begin);
        layer_forward<T>(
            network, l, part_of.size(), columns, to, to, linear,
            [&](Rows<T> z) {
              if (l > 1 || !X.mostly_zeros()) return weights.forward(part_of.size(), from, columns, z);
              for (Index r = 0; r < part_of.size(); ++r)
                sparse_product<T>(network, X.stored(rows.begin + part_of.begin + r), columns, z.row(r));
            },
            [](T) {});
      });
      std::swap(before, after);
    }
    use(rows, before, targets);
  });
}

template <class T, class Use>
void stream(const Network<T>& network, const Inputs<T>& X, bool logits, const BetweenBlocks& between, const Use& use) {
  in_row_blocks(X.rows(), X.rows(), forward_operations(network, 1), between, [&](Range block) {
    stream_block<T>(network, X.part(block.begin, block.end), logits,
                    [&](Range rows, Rows<T> x, Rows<T> targets) { use(rows.shifted(block.begin), x, targets); });
  });
}

/// The loss of each sample, summed over its outputs where it is their mean.
template <class T>
Vector<double> sample_losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples,
                             const BetweenBlocks& between) {
  const Index outputs = network.outputs(), n = samples.X.rows();
  if (n > 0) check_batch(network, loss, Batch<T>{samples, n});
  Buffer<T> loss_parameter(outputs);
  fill_loss_parameters(loss, outputs, loss_parameter.data());
  Vector<double> row_loss(n);
  stream<T>(network, samples.X, from_logits(loss), between, [&](Range rows, Rows<T> x, Rows<T> targets) {
    for (Index r = 0; r < rows.size(); ++r) samples.y.load(rows.begin + r, outputs, targets.row(r));
    kernels<T>().loss[loss.index()](rows.size(), outputs, x, targets, loss_parameter.data(), nullptr,
                                    row_loss.data() + rows.begin, {nullptr, 0});
  });
  return row_loss;
}

}  // namespace

template <class T>
void predict(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X, T* output,
             const BetweenBlocks& between) {
  check_inputs(network, X);
  stream<T>(network, X, false, between, [&](Range rows, Rows<T> a, Rows<T>) {
    for (Index r = 0; r < rows.size(); ++r)
      copy_row(a.row(r), network.outputs(), output + (rows.begin + r) * network.outputs());
  });
}

template <class T>
double predict_bytes(const Network<T>& network, Index rows, bool sparse) {
  double most = 0;
  in_row_blocks(rows, rows, forward_operations(network, 1), {}, [&](Range block) {
    const Plan<T> plan(network, block.size(), sparse);
    const Index at_once = fits_packed<T>(network) ? std::min<Index>(plan.threads, plan.parts) : 1;
    const Index rows_of_part = parts_of(block.size(), plan.parts);
    const double numbers = static_cast<double>(plan.matrices * plan.wide) * static_cast<double>(at_once * rows_of_part);
    most = std::max(most, numbers + static_cast<double>(plan.panels));
  });
  return most * sizeof(T);
}

template <class T>
Vector<double> losses(const Network<T>& network, const Loss& loss, const Samples<T>& samples,
                      const BetweenBlocks& between) {
  return sample_losses(network, loss, samples, between) / mean_divisor(loss, network.outputs(), 1);
}

template <class T>
double evaluate(const Network<T>& network, const Loss& loss, const Samples<T>& samples, const BetweenBlocks& between) {
  const Batch<T> batch{samples, samples.X.rows()};
  if (batch.size < 1) throw std::invalid_argument("X has no rows; expected at least one");
  const Vector<double> row_loss = sample_losses(network, loss, samples, between);
  return weighted_mean(batch, row_loss.data(), mean_divisor(loss, network.outputs(), batch.weight()));
}

#define CHAINRULE_INSTANTIATE(T)                                                                              \
  template void predict(const Network<T>&, const std::type_identity_t<Inputs<T>>&, T*, const BetweenBlocks&); \
  template double predict_bytes(const Network<T>&, Index, bool);                                              \
  template Vector<double> losses(const Network<T>&, const Loss&, const Samples<T>&, const BetweenBlocks&);    \
  template double evaluate(const Network<T>&, const Loss&, const Samples<T>&, const BetweenBlocks&);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
