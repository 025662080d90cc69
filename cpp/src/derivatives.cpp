#include "chainrule/derivatives.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "chainrule/backprop.hpp"
#include "layout.hpp"
#include "weight_tiles.hpp"

namespace chainrule {

namespace {

template <class T>
ConstMatrixView<T> rows_from(const MatrixArgument<T>& m, Range rows) {
  return {m.data() + rows.begin * m.outerStride(), rows.size(), m.cols(), Eigen::OuterStride<>(m.outerStride())};
}

/// Calls block(rows) for as many rows at a time as the tape holds.
template <class T, class Block>
void in_blocks(Index rows, const Tape<T>& tape, const BetweenBlocks& between, const Block& block) {
  if (rows < 1) throw std::invalid_argument("there are no rows; expected at least one");
  if (tape.capacity() < 1) throw std::invalid_argument("the tape holds no rows; expected at least one");
  const Index blocks = (rows + tape.capacity() - 1) / tape.capacity();
  for (Index i = 0; i < blocks; ++i) {
    if (i > 0 && between) between();
    block(part(rows, blocks, i));
  }
}

/// Calls chunk(rows) in parallel. A chunk rearranges the weights for itself, which takes many rows to pay.
template <class Chunk>
void in_chunks(Index rows, double operations_per_row, const Chunk& chunk) {
  constexpr Index enough = 128, fewest = 16;
  const int threads = threads_for(operations_per_row * static_cast<double>(rows));
  const Index wanted = (std::max<Index>((rows + enough - 1) / enough, threads) + threads - 1) / threads * threads;
  const Index chunks = std::clamp<Index>(rows / fewest, 1, wanted);
  parallel(chunks, threads, [&](std::ptrdiff_t i) { chunk(part(rows, chunks, i)); });
}

template <class T>
double product_operations(const Network<T>& network) {
  return 2.0 * static_cast<double>(network.parameter_count());
}

/// C = or, with `add`, += A B with B (k, n) as it lies in a vector laid out like θ. Nothing behind its end is read.
template <class T>
void times(Index count, Rows<const T> A, Index k, const T* B, Index n, Rows<T> C, bool add = false) {
  kernels<T>().multiply_large(count, n, k, A.data, A.pitch, B, n, C, add);
}

/// C = or, with `add`, += A Bᵀ with B (k, n)
template <class T>
void times_transposed(Index count, Rows<const T> A, Index k, const T* B, Index n, Rows<T> C, bool add = false) {
  kernels<T>().multiply_large_transposed(count, k, n, A.data, A.pitch, B, n, C, add);
}

template <class T>
void add(Index count, Index columns, Rows<const T> from, Rows<T> to) {
  for (Index r = 0; r < count; ++r)
    for (Index c = 0; c < columns; ++c) to.row(r)[c] += from.row(r)[c];
}

template <class T>
void copy(Index count, Index columns, Rows<const T> from, Rows<T> to) {
  for (Index r = 0; r < count; ++r) std::copy_n(from.row(r), columns, to.row(r));
}

/// Rows of z_l and a_l as σ'_l needs them. A pitch of zero makes all of them the first one.
template <class T>
struct Unit {
  Rows<const T> z, a;
  Index columns;
  const Activation& activation;

  static Unit of(const Network<T>& network, Tape<T>& tape, Index l, Index first) {
    const Rows<T> a = rows_of(tape.activation(l), first);
    return {tape.has_pre_activation(l) ? rows_of(tape.pre_activation(l), first) : a, a, network.units(l),
            network.activation(l)};
  }
  Unit repeated() const { return {{z.data, 0}, {a.data, 0}, columns, activation}; }

  /// δ ← δ ⊙ σ'_l
  void times_derivative(Index count, Rows<T> delta) const {
    if (std::holds_alternative<Identity>(activation)) return;
    kernels<T>().times_derivative[activation.index()](count, columns, z, a, delta,
                                                      static_cast<T>(parameter(activation)));
  }
  /// Rg ← Rg ⊙ σ'_l + g ⊙ σ''_l ⊙ Rz
  void directional_derivative(Index count, Rows<const T> Rz, Rows<const T> g, Rows<T> Rg) const {
    kernels<T>().directional_derivative[activation.index()](count, columns, z, a, Rz, g, Rg,
                                                            static_cast<T>(parameter(activation)));
  }
};

/// Rows of the Jacobians of the samples on the tape, `seeds` of them for each sample, from one end of the network to
/// the other: row q belongs to sample q / seeds and starts as the unit vector first + q % seeds.
template <class T>
class JacobianRows {
 public:
  JacobianRows(const Network<T>& network, Tape<T>& tape, Index seeds, Index first, Range rows)
      : network_(network),
        tape_(tape),
        seeds_(seeds),
        first_(first),
        rows_(rows),
        pitch_(pitch<T>(network.widest())),
        memory_(2 * rows.size() * pitch_),
        now_{memory_.data(), pitch_},
        next_{memory_.data() + rows.size() * pitch_, pitch_} {
    for (Index r = 0; r < rows.size(); ++r) now_.row(r)[first_ + (rows.begin + r) % seeds_] = T(1);
  }

  /// From the outputs: row (i, o) is da_{L,io}/dX.
  Rows<const T> backward() {
    times_derivative(network_.depth());
    for (Index l = network_.depth(); l > 0; --l) {
      times_transposed<T>(rows_.size(), now_, network_.units(l - 1), network_.weight(l).data(), network_.units(l),
                          next_);
      std::swap(now_, next_);
      if (l > 1) times_derivative(l - 1);
    }
    return now_;
  }

  /// From the inputs: row (i, j) is da_{L,i}/dX_ij.
  Rows<const T> forward() {
    for (Index l = 1; l <= network_.depth(); ++l) {
      times<T>(rows_.size(), now_, network_.units(l - 1), network_.weight(l).data(), network_.units(l), next_);
      std::swap(now_, next_);
      times_derivative(l);
    }
    return now_;
  }

 private:
  void times_derivative(Index l) {
    for (Index q = rows_.begin; q < rows_.end;) {
      const Index sample = q / seeds_, end = std::min<Index>(rows_.end, (sample + 1) * seeds_);
      Unit<T>::of(network_, tape_, l, sample).repeated().times_derivative(end - q, now_.from(q - rows_.begin));
      q = end;
    }
  }

  const Network<T>& network_;
  Tape<T>& tape_;
  Index seeds_, first_;
  Range rows_;
  Index pitch_;
  Buffer<T> memory_;
  Rows<T> now_, next_;
};

/// The derivative R of everything on the tape of a batch, along v.
template <class T>
class ROperator {
 public:
  ROperator(const Network<T>& network, const Loss& loss, Tape<T>& tape, Tape<T>& R, ConstVectorView<T> v, T scale)
      : network_(network),
        loss_(loss),
        tape_(tape),
        R_(R),
        v_(v),
        scale_(scale),
        pitch_(pitch<T>(network.widest())),
        scratch_(checked_product(tape.rows(), pitch_)) {}

  void by_rows() {
    in_chunks(tape_.rows(), 5 * product_operations(network_), [&](Range rows) {
      for (Index l = 1; l <= network_.depth(); ++l) forward(l, rows);
      output(rows);
      for (Index l = network_.depth(); l > 1; --l) backward(l, rows);
    });
  }

  /// to += R[dW_l; db_l], for all l
  void by_weights(VectorView<T> to) {
    const double operations = 4.0 * static_cast<double>(network_.parameter_count() * tape_.rows());
    parallel_over_units(network_, 1, threads_for(operations), [&](Index l, Range tiles, Range columns) {
      add_products(l, tiles, columns, tape_.activation(l - 1), R_.delta(l), network_.units(l - 1) + 1, to);
      if (l > 1) add_products(l, tiles, columns, R_.activation(l - 1), tape_.delta(l), network_.units(l - 1), to);
    });
  }

 private:
  Rows<T> scratch(Range rows) { return {scratch_.data() + rows.begin * pitch_, pitch_}; }

  void forward(Index l, Range rows) {
    const Index before = network_.units(l - 1), units = network_.units(l), count = rows.size();
    const Rows<T> Rz = rows_of(R_.pre_activation(l), rows.begin), Ra = rows_of(R_.activation(l), rows.begin);
    times<T>(count, rows_of(tape_.activation(l - 1), rows.begin), before + 1, v_.data() + network_.offset(l), units,
             Rz);
    if (l > 1)
      times<T>(count, rows_of(R_.activation(l - 1), rows.begin), before, network_.weight(l).data(), units, Rz, true);
    copy<T>(count, units, Rz, Ra);
    Unit<T>::of(network_, tape_, l, rows.begin).times_derivative(count, Ra);
  }

  void output(Range rows) {
    const Index L = network_.depth(), units = network_.outputs(), count = rows.size();
    const bool logits = from_logits(loss_);
    const auto of = [&](Tape<T>& tape) {
      return rows_of(logits ? tape.pre_activation(L) : tape.activation(L), rows.begin);
    };
    const Rows<T> y = rows_of(tape_.target(), rows.begin), Rdelta = rows_of(R_.delta(L), rows.begin);
    const T* weight = tape_.row_weight() + rows.begin;
    copy<T>(count, units, of(R_), Rdelta);
    kernels<T>().loss_curvature[loss_.index()](count, units, of(tape_), y, tape_.loss_parameter(), scale_, weight,
                                               Rdelta);
    if (logits) return;
    kernels<T>().loss[loss_.index()](count, units, of(tape_), y, tape_.loss_parameter(), scale_, weight,
                                     tape_.row_loss() + rows.begin, scratch(rows));
    Unit<T>::of(network_, tape_, L, rows.begin)
        .directional_derivative(count, rows_of(R_.pre_activation(L), rows.begin), scratch(rows), Rdelta);
  }

  void backward(Index l, Range rows) {
    const Index before = network_.units(l - 1), units = network_.units(l), count = rows.size();
    const Rows<T> delta = rows_of(tape_.delta(l), rows.begin), Rg = rows_of(R_.delta(l - 1), rows.begin);
    const Unit<T> unit = Unit<T>::of(network_, tape_, l - 1, rows.begin);
    times_transposed<T>(count, rows_of(R_.delta(l), rows.begin), before, network_.weight(l).data(), units, Rg);
    times_transposed<T>(count, delta, before, v_.data() + network_.offset(l), units, Rg, true);
    if (piecewise_linear(unit.activation)) {
      unit.times_derivative(count, Rg);
      return;
    }
    times_transposed<T>(count, delta, before, network_.weight(l).data(), units, scratch(rows));
    unit.directional_derivative(count, rows_of(R_.pre_activation(l - 1), rows.begin), scratch(rows), Rg);
  }

  /// Tiles of [W_l; b_l] += AᵀB, down to row `end`.
  void add_products(Index l, Range tiles, Range columns, MatrixView<T> A, MatrixView<T> B, Index end,
                    VectorView<T> to) {
    const Index units = network_.units(l);
    T* const first = to.data() + network_.offset(l);
    weight_tiles<T>(
        A, B, tiles, columns, false, [](Range, Range) {},
        [&](Range rows, Range across, Rows<T> tile) {
          add<T>(std::min(rows.end, end) - rows.begin, across.size(), tile,
                 {first + rows.begin * units + across.begin, units});
        });
  }

  const Network<T>& network_;
  const Loss& loss_;
  Tape<T>&tape_, &R_;
  ConstVectorView<T> v_;
  T scale_;
  Index pitch_;
  Buffer<T> scratch_;
};

/// Puts blocks of the samples on the tape, with the δ of each sample's own loss, and calls sample(i, row of the tape)
/// for each.
template <class T, class Sample>
void for_samples(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape,
                 double operations, const BetweenBlocks& between, const Sample& sample) {
  const Samples<T> unweighted{samples.X, samples.y};
  in_blocks(samples.X.rows(), tape, between, [&](Range block) {
    const Batch<T> batch{unweighted.from(block.begin), block.size()};
    deltas(network, loss, batch, tape, {.loss_weight = static_cast<double>(block.size())});
    in_chunks(block.size(), operations, [&](Range rows) {
      for (Index r = rows.begin; r < rows.end; ++r) sample(block.begin + r, r);
    });
  });
}

}  // namespace

template <class T>
void jacobian(const Network<T>& network, const MatrixArgument<T>& X, Tape<T>& tape, T* to,
              const BetweenBlocks& between) {
  const Index inputs = network.inputs(), outputs = network.outputs(), seeds = std::min(inputs, outputs);
  in_blocks(X.rows(), tape, between, [&](Range block) {
    forward<T>(network, rows_from(X, block), tape);
    T* block_to = to + block.begin * outputs * inputs;
    in_chunks(block.size() * seeds, product_operations(network), [&](Range rows) {
      JacobianRows<T> jacobian(network, tape, seeds, 0, rows);
      if (outputs <= inputs) {
        copy<T>(rows.size(), inputs, jacobian.backward(), {block_to + rows.begin * inputs, inputs});
        return;
      }
      const Rows<const T> from = jacobian.forward();
      for (Index q = rows.begin; q < rows.end; ++q)
        for (Index o = 0; o < outputs; ++o)
          block_to[(q / inputs * outputs + o) * inputs + q % inputs] = from.row(q - rows.begin)[o];
    });
  });
}

template <class T>
void input_gradient(const Network<T>& network, const MatrixArgument<T>& X, Index output, Tape<T>& tape, T* to,
                    const BetweenBlocks& between) {
  const Index inputs = network.inputs();
  if (output < 0 || output >= network.outputs())
    throw std::invalid_argument("output is " + std::to_string(output) + "; this network has outputs 0 to " +
                                std::to_string(network.outputs() - 1));
  in_blocks(X.rows(), tape, between, [&](Range block) {
    forward<T>(network, rows_from(X, block), tape);
    in_chunks(block.size(), product_operations(network), [&](Range rows) {
      JacobianRows<T> jacobian(network, tape, 1, output, rows);
      copy<T>(rows.size(), inputs, jacobian.backward(), {to + (block.begin + rows.begin) * inputs, inputs});
    });
  });
}

template <class T>
void jvp(const Network<T>& network, const MatrixArgument<T>& X, const MatrixArgument<T>& V, Tape<T>& tape, T* to,
         const BetweenBlocks& between) {
  const Index L = network.depth(), outputs = network.outputs();
  in_blocks(X.rows(), tape, between, [&](Range block) {
    forward<T>(network, rows_from(X, block), tape);
    const ConstMatrixView<T> directions = rows_from(V, block);
    in_chunks(block.size(), product_operations(network), [&](Range rows) {
      // Ra_l takes the place of δ_l, which this pass does without.
      Rows<const T> before{directions.data() + rows.begin * directions.outerStride(), directions.outerStride()};
      for (Index l = 1; l <= L; ++l) {
        const Rows<T> Ra = rows_of(tape.delta(l), rows.begin);
        times<T>(rows.size(), before, network.units(l - 1), network.weight(l).data(), network.units(l), Ra);
        Unit<T>::of(network, tape, l, rows.begin).times_derivative(rows.size(), Ra);
        before = Ra;
      }
      copy<T>(rows.size(), outputs, before, {to + (block.begin + rows.begin) * outputs, outputs});
    });
  });
}

template <class T>
void per_sample_gradients(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape, T* to,
                          const BetweenBlocks& between) {
  // What it takes is writing it all down.
  for_samples(network, loss, samples, tape, 4 * product_operations(network), between, [&](Index i, Index row) {
    T* place = to + i * network.parameter_count();
    for (Index l = 1; l <= network.depth(); ++l) {
      const T *a = tape.activation(l - 1).data() + row * tape.activation(l - 1).outerStride(),
              *delta = tape.delta(l).data() + row * tape.delta(l).outerStride();
      const Index units = network.units(l);
      for (Index j = 0; j <= network.units(l - 1); ++j, place += units)  // the last a is the bias's 1
        for (Index k = 0; k < units; ++k) place[k] = a[j] * delta[k];
    }
  });
}

template <class T>
void per_sample_gradient_norms(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape,
                               T* to, const BetweenBlocks& between) {
  const Kernels<T>& kernel = kernels<T>();
  const auto sum_of_squares = [&](MatrixView<T> m, Index row, Index columns) {
    return kernel.sum_of_squares(columns, m.data() + row * m.outerStride());
  };
  for_samples(network, loss, samples, tape, 16.0 * static_cast<double>(network.widest() * network.depth()), between,
              [&](Index i, Index row) {
                double total = 0;
                for (Index l = 1; l <= network.depth(); ++l)
                  total += sum_of_squares(tape.activation(l - 1), row, network.units(l - 1) + 1) *
                           sum_of_squares(tape.delta(l), row, network.units(l));
                to[i] = static_cast<T>(std::sqrt(total));
              });
}

template <class T>
void hvp(const Network<T>& network, const Loss& loss, const Samples<T>& samples, ConstVectorView<T> v, Tape<T>& tape,
         Tape<T>& R, VectorView<T> to, const BetweenBlocks& between) {
  const auto check_size = [&](const char* what, Index size) {
    if (size != network.parameter_count())
      throw std::invalid_argument(std::string(what) + " has " + std::to_string(size) + " entries; this network has " +
                                  std::to_string(network.parameter_count()) + " parameters");
  };
  check_size("v", v.size());
  check_size("the result", to.size());
  if (R.capacity() < tape.capacity() || !R.keeps_pre_activations())
    throw std::invalid_argument("R is a tape that keeps pre-activations and holds as many rows as the other");
  const double total = Batch<T>{samples, samples.X.rows()}.weight();
  const double divisor = sum_over_outputs(loss) ? total : total * static_cast<double>(network.outputs());
  to.setZero();
  in_blocks(samples.X.rows(), tape, between, [&](Range block) {
    const Batch<T> batch{samples.from(block.begin), block.size()};
    if (batch.weight() == 0) return;
    deltas(network, loss, batch, tape, {.loss_weight = batch.weight() / total});
    R.set_rows(block.size());
    ROperator<T> r(network, loss, tape, R, v, static_cast<T>(1 / divisor));
    r.by_rows();
    r.by_weights(to);
  });
}

#define CHAINRULE_INSTANTIATE(T)                                                                               \
  template void jacobian(const Network<T>&, const MatrixArgument<T>&, Tape<T>&, T*, const BetweenBlocks&);     \
  template void input_gradient(const Network<T>&, const MatrixArgument<T>&, Index, Tape<T>&, T*,               \
                               const BetweenBlocks&);                                                          \
  template void jvp(const Network<T>&, const MatrixArgument<T>&, const MatrixArgument<T>&, Tape<T>&, T*,       \
                    const BetweenBlocks&);                                                                     \
  template void per_sample_gradients(const Network<T>&, const Loss&, const Samples<T>&, Tape<T>&, T*,          \
                                     const BetweenBlocks&);                                                    \
  template void per_sample_gradient_norms(const Network<T>&, const Loss&, const Samples<T>&, Tape<T>&, T*,     \
                                          const BetweenBlocks&);                                               \
  template void hvp(const Network<T>&, const Loss&, const Samples<T>&, ConstVectorView<T>, Tape<T>&, Tape<T>&, \
                    VectorView<T>, const BetweenBlocks&);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
