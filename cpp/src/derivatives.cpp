#include "chainrule/derivatives.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "chainrule/backprop.hpp"
#include "checks.hpp"
#include "layer.hpp"
#include "loss_mean.hpp"
#include "row_blocks.hpp"
#include "sweeps.hpp"
#include "weight_tiles.hpp"

namespace chainrule {

namespace {

/// `in_row_blocks` of as many rows as a step takes, or as the tape holds, with so many passes over the network for each
/// row.
template <class T, class Block>
void in_tape_blocks(const Network<T>& network, Index rows, Index passes, Tape<T>& tape, const BetweenBlocks& between,
                    const Block& block, Index seeds = 1) {
  if (rows < 1) throw std::invalid_argument("there are no rows; expected at least one");
  if (tape.capacity() < 1) throw std::invalid_argument("the tape holds no rows; expected at least one");
  tape.set_draw({});
  // A larger tape does not make other blocks, and so other sums.
  const Index at_a_time = std::min(tape.capacity(), rows_at_a_time(network, rows));
  in_row_blocks(rows, at_a_time, static_cast<double>(passes) * forward_operations(network, 1), between, block, seeds);
}

/// Forward as far as a σ' asks for: an output that is linear is left out.
template <class T>
void forward_for_slopes(const Network<T>& network, const Inputs<T>& X, Tape<T>& tape) {
  check_inputs(network, X);
  check_tape(network, tape, X.rows());
  tape.set_rows(X.rows());
  const bool linear = std::holds_alternative<Identity>(network.activation(network.depth()));
  Sweeps<T>(network, tape, {.without_output = linear}).forward(X);
}

template <class T>
void copy(Index count, Index columns, Rows<const T> from, Rows<T> to) {
  for (Index r = 0; r < count; ++r) copy_row(from.row(r), columns, to.row(r));
}

/// Some columns of z_l and a_l as σ'_l needs them. A pitch of zero makes all rows the first one.
template <class T>
struct Slopes {
  Rows<const T> z, a;
  Index columns;
  const Activation& activation;

  static Slopes of(const Network<T>& network, Tape<T>& tape, Index l, Index first_row, Range columns) {
    const auto part_of = [&](MatrixView<T> m) { return rows_of(m, first_row).columns_from(columns.begin); };
    const Rows<T> a = part_of(tape.activation(l));
    return {tape.has_pre_activation(l) ? part_of(tape.pre_activation(l)) : a, a, columns.size(), network.activation(l)};
  }
  Slopes repeated() const { return {{z.data, 0}, {a.data, 0}, columns, activation}; }

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
  JacobianRows(const Network<T>& network, Tape<T>& tape, Index seeds, Index first)
      : network_(network),
        tape_(tape),
        seeds_(seeds),
        first_(first),
        rows_(tape.rows() * seeds),
        threads_(threads_for(forward_operations(network, rows_))),
        wide_(pitch<T>(network.widest())),
        parts_(parts_through(network, rows_, wide_, threads_)),
        packed_(parts_ > 1 && fits_packed<T>(network)) {}

  /// From the outputs: use(rows, …) gets da_{L,io}/dX as row (i, o).
  template <class Use>
  void backward(const Use& use) {
    const Index L = network_.depth();
    // A unit vector times σ'_L is one number, and its product with W_Lᵀ a row of that; but for the softmax.
    const bool one_number = !over_row(network_.activation(L));
    Matrix<T> transposed;  // those rows
    if (one_number) transposed = network_.weight(L).middleCols(first_, seeds_).transpose();
    const auto panels = [&](Index l) {
      return packed_ && !(one_number && l == L) ? tape_.transposed_panels(l) : nullptr;
    };
    pack_weights(network_, network_.parameters().data(), threads_, no_panels<T>, panels);
    through(use, [&](Range rows, int threads, Rows<T>& now, Rows<T>& next) {
      for (Index r = 0; r < rows.size(); ++r) {
        std::fill_n(now.row(r), network_.outputs(), T(0));
        now.row(r)[first_ + seed(rows.begin + r)] = T(1);
      }
      times_derivative(L, rows, {0, network_.outputs()}, now);
      for (Index l = L; l > 0; --l) {
        const Weights<T> weights{network_, l, panels(l)};
        in_blocks<T>(rows.size(), network_.units(l - 1), threads, [&](Range block, Range columns) {
          const Rows<T> from = now.from(block.begin), to = next.from(block.begin).columns_from(columns.begin);
          const Range of_block = block.shifted(rows.begin);
          if (l < L || !one_number) weights.backward(block.size(), from, columns, to);
          for (Index r = 0; l == L && one_number && r < block.size(); ++r) {
            const Index s = seed(of_block.begin + r);
            const T slope = from.row(r)[first_ + s];
            for (Index c = 0; c < columns.size(); ++c) to.row(r)[c] = slope * transposed(s, columns.begin + c);
          }
          if (l > 1) times_derivative(l - 1, of_block, columns, to);
        });
        std::swap(now, next);
      }
    });
  }

  /// From the inputs: use(rows, …) gets da_{L,i}/dX_ij as row (i, j).
  template <class Use>
  void forward(const Use& use) {
    const auto panels = [&](Index l) { return packed_ && l > 1 ? tape_.weight_panels(l) : nullptr; };
    pack_weights(network_, network_.parameters().data(), threads_, panels, no_panels<T>);
    through(use, [&](Range rows, int threads, Rows<T>& now, Rows<T>& next) {
      for (Index l = 1; l <= network_.depth(); ++l) {
        const Weights<T> weights{network_, l, panels(l)};
        in_forward_blocks(network_, l, rows.size(), threads, false, [&](Range block, Range columns) {
          const Rows<T> to = next.from(block.begin).columns_from(columns.begin);
          const Range of_block = block.shifted(rows.begin);
          if (l > 1) weights.forward(block.size(), now.from(block.begin), columns, to, false);
          for (Index r = 0; l == 1 && r < block.size(); ++r) {  // a unit vector times W_1
            const Index input = first_ + seed(of_block.begin + r);
            std::copy_n(weights.weight + input * network_.units(1) + columns.begin, columns.size(), to.row(r));
          }
          times_derivative(l, of_block, columns, to);
        });
        std::swap(now, next);
      }
    });
  }

 private:
  Index seed(Index row) const { return row % seeds_; }

  /// Takes rows through `layers`, which leaves the result in its third argument.
  template <class Use, class Layers>
  void through(const Use& use, const Layers& layers) {
    through_layers(network_, rows_, parts_, threads_, 2 * wide_, [&](Range rows, int threads, T* memory) {
      Rows<T> now{memory, wide_}, next{memory + rows.size() * wide_, wide_};
      layers(rows, threads, now, next);
      use(rows, Rows<const T>(now));
    });
  }

  void times_derivative(Index l, Range rows, Range columns, Rows<T> to) {
    for (Index q = rows.begin; q < rows.end;) {
      const Index sample = q / seeds_, end = std::min<Index>(rows.end, (sample + 1) * seeds_);
      Slopes<T>::of(network_, tape_, l, sample, columns).repeated().times_derivative(end - q, to.from(q - rows.begin));
      q = end;
    }
  }

  const Network<T>& network_;
  Tape<T>& tape_;
  Index seeds_, first_, rows_;
  int threads_;
  Index wide_, parts_;
  bool packed_;
};

/// The way back of a batch that has gone forward, and beside it the derivative R of everything along v.
template <class T>
class ROperator {
 public:
  ROperator(const Network<T>& network, const Loss& loss, Tape<T>& tape, Tape<T>& R, ConstVectorView<T> v)
      : network_(network),
        loss_(loss),
        tape_(tape),
        R_(R),
        v_(v),
        logits_(from_logits(loss)),
        threads_(threads_for(2 * forward_operations(network, tape.rows()))) {}  // twice a step's work

  /// The tape's panels are those of the weights, and R's become those of v.
  void by_rows() {
    const Index L = network_.depth(), n = tape_.rows();
    for (const auto& [theta, tape] : {std::pair(network_.parameters().data(), &tape_), std::pair(v_.data(), &R_)})
      pack_weights(
          network_, theta, threads_, [&](Index l) { return tape->weight_panels(l); },
          [&](Index l) { return l > 1 ? tape->transposed_panels(l) : nullptr; });
    const Index parts = parts_through(network_, n, pitch<T>(network_.widest()), threads_);
    through_layers(network_, n, parts, threads_, 0, [&](Range part_of, int threads, T*) {
      for (Index l = 1; l <= L; ++l)
        in_forward_blocks(network_, l, part_of.size(), threads, logits_ && l == L,
                          [&](Range block, Range columns) { forward(l, block.shifted(part_of.begin), columns); });
      output(part_of);
      for (Index l = L; l > 1; --l)
        in_blocks<T>(part_of.size(), network_.units(l - 1), threads,
                     [&](Range block, Range columns) { backward(l, block.shifted(part_of.begin), columns); });
    });
  }

  /// to = or, with `add`, += R[dW_l; db_l], for all l
  void by_weights(VectorView<T> to, bool add) {
    parallel_over_stacks(network_, 1, threads_, [&](Index l, Range tiles, Range columns) {
      const auto use = [&](Range rows, Range across, Rows<T> tile) {
        store_tile(network_, l, rows, across, tile, to.data(), add);
      };
      const WeightFactors<T> second{tape_.activation(l - 1), R_.delta(l)};
      if (l == 1)
        weight_tiles<T>({second}, tiles, columns, false, nothing, use);
      else
        weight_tiles<T>({{R_.activation(l - 1), tape_.delta(l)}, second}, tiles, columns, false, nothing, use);
    });
  }

 private:
  static void nothing(Range, Range) {}
  Weights<T> of_weights(Index l, const T* panels) const { return {network_, l, panels}; }
  Weights<T> of_v(Index l, const T* panels) const {
    return {network_, l, panels, v_.data() + network_.offset(l), false};
  }

  /// Rz_l = Ra_{l-1} W_l + [a_{l-1} 1] v_l;  Ra_l = Rz_l ⊙ σ'_l
  void forward(Index l, Range rows, Range columns) {
    const Index count = rows.size(), L = network_.depth();
    const Rows<T> Ra = rows_of(R_.activation(l), rows.begin).columns_from(columns.begin);
    // Nobody asks for Rz_l where σ''_l = 0.
    const bool keeps_Rz = l == L || !piecewise_linear(network_.activation(l));
    const Rows<T> Rz = keeps_Rz ? rows_of(R_.pre_activation(l), rows.begin).columns_from(columns.begin) : Ra;
    of_v(l, R_.weight_panels(l)).forward(count, rows_of(tape_.activation(l - 1), rows.begin), columns, Rz);
    if (l > 1)
      of_weights(l, tape_.weight_panels(l))
          .forward(count, rows_of(R_.activation(l - 1), rows.begin), columns, Rz, false, true);
    if (l == L && logits_) return;
    if (keeps_Rz) copy<T>(count, columns.size(), Rz, Ra);
    Slopes<T>::of(network_, tape_, l, rows.begin, columns).times_derivative(count, Ra);
    if (columns.end == network_.units(l))  // R1 stands beside Ra
      for (Index r = 0; r < count; ++r) Ra.row(r)[columns.size()] = T(0);
  }

  /// δ_L and Rδ_L
  void output(Range rows) {
    const Index L = network_.depth(), units = network_.outputs(), count = rows.size();
    const auto of = [&](Tape<T>& tape) {
      return rows_of(logits_ ? tape.pre_activation(L) : tape.activation(L), rows.begin);
    };
    const Rows<T> y = rows_of(tape_.target(), rows.begin);
    const Rows<T> delta = rows_of(tape_.delta(L), rows.begin), Rdelta = rows_of(R_.delta(L), rows.begin);
    const T* weight = tape_.row_weight() + rows.begin;
    kernels<T>().loss[loss_.index()](count, units, of(tape_), y, tape_.loss_parameter(), weight,
                                     tape_.row_loss() + rows.begin, delta);
    copy<T>(count, units, of(R_), Rdelta);
    kernels<T>().loss_curvature[loss_.index()](count, units, of(tape_), y, tape_.loss_parameter(), weight, Rdelta);
    if (!logits_) times_derivatives(L, rows, {0, units}, delta, Rdelta);
  }

  /// δ_{l-1} and Rδ_{l-1}
  void backward(Index l, Range rows, Range columns) {
    const Index count = rows.size();
    const auto before = [&](Tape<T>& tape) {
      return rows_of(tape.delta(l - 1), rows.begin).columns_from(columns.begin);
    };
    const Rows<T> delta = rows_of(tape_.delta(l), rows.begin), Rdelta = rows_of(R_.delta(l), rows.begin);
    const Weights<T> weights = of_weights(l, tape_.transposed_panels(l));
    if (needs_delta(l - 1)) weights.backward(count, delta, columns, before(tape_));
    weights.backward(count, Rdelta, columns, before(R_));
    of_v(l, R_.transposed_panels(l)).backward(count, delta, columns, before(R_), true);
    times_derivatives(l - 1, rows, columns, before(tape_), before(R_));
  }

  /// From g = dL/da_l and Rg to δ_l = g ⊙ σ'_l and Rδ_l = Rg ⊙ σ'_l + g ⊙ σ''_l ⊙ Rz_l, in their places.
  void times_derivatives(Index l, Range rows, Range columns, Rows<T> g, Rows<T> Rg) {
    const Slopes<T> slopes = Slopes<T>::of(network_, tape_, l, rows.begin, columns);
    if (piecewise_linear(slopes.activation))
      slopes.times_derivative(rows.size(), Rg);
    else
      slopes.directional_derivative(rows.size(), rows_of(R_.pre_activation(l), rows.begin).columns_from(columns.begin),
                                    g, Rg);
    if (needs_delta(l)) slopes.times_derivative(rows.size(), g);
  }

  /// R[dW_1] = a_0ᵀ Rδ_1, as Ra_0 = 0: nobody but σ''_1 asks for δ_1.
  bool needs_delta(Index l) const { return l > 1 || !piecewise_linear(network_.activation(l)); }

  const Network<T>& network_;
  const Loss& loss_;
  Tape<T>&tape_, &R_;
  ConstVectorView<T> v_;
  bool logits_;
  int threads_;
};

/// Puts blocks of the samples on the tape, with the δ of each sample's own loss, and calls sample(i, row of the tape)
/// for each.
template <class T, class Sample>
void for_samples(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape,
                 double operations, const BetweenBlocks& between, const Sample& sample) {
  const Samples<T> unweighted{samples.X, samples.y};
  in_tape_blocks(network, samples.X.rows(), 3, tape, between, [&](Range block) {
    const Batch<T> batch{unweighted.from(block.begin), block.size()};
    deltas(network, loss, batch, tape, {.loss_weight = static_cast<double>(block.size())});
    const int threads = threads_for(operations * static_cast<double>(block.size()));
    const Index chunks = chunk_count<T>(block.size(), threads);
    parallel(chunks, threads, [&](std::ptrdiff_t i) {
      const Range rows = part(block.size(), chunks, i);
      for (Index r = rows.begin; r < rows.end; ++r) sample(block.begin + r, r);
    });
  });
}

}  // namespace

template <class T>
void jacobian(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X, Tape<T>& tape, T* to,
              const BetweenBlocks& between) {
  const Index inputs = network.inputs(), outputs = network.outputs();
  const Index seeds = std::min(inputs, outputs);
  const auto of_block = [&](Range block) {
    forward_for_slopes<T>(network, X.part(block.begin, block.end), tape);
    T* block_to = to + block.begin * outputs * inputs;
    JacobianRows<T> jacobian(network, tape, seeds, 0);
    if (outputs <= inputs) {
      jacobian.backward([&](Range rows, Rows<const T> from) {
        copy<T>(rows.size(), inputs, from, {block_to + rows.begin * inputs, inputs});
      });
      return;
    }
    jacobian.forward([&](Range rows, Rows<const T> from) {
      for (Index q = rows.begin; q < rows.end; ++q)
        for (Index o = 0; o < outputs; ++o)
          block_to[(q / inputs * outputs + o) * inputs + q % inputs] = from.row(q - rows.begin)[o];
    });
  };
  in_tape_blocks(network, X.rows(), seeds + 1, tape, between, of_block, seeds);
}

template <class T>
void input_gradient(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X, Index output, Tape<T>& tape,
                    T* to, const BetweenBlocks& between) {
  const Index inputs = network.inputs();
  if (output < 0 || output >= network.outputs())
    throw std::invalid_argument("output is " + std::to_string(output) + "; this network has outputs 0 to " +
                                std::to_string(network.outputs() - 1));
  in_tape_blocks(network, X.rows(), 2, tape, between, [&](Range block) {
    forward_for_slopes<T>(network, X.part(block.begin, block.end), tape);
    JacobianRows<T>(network, tape, 1, output).backward([&](Range rows, Rows<const T> from) {
      copy<T>(rows.size(), inputs, from, {to + (block.begin + rows.begin) * inputs, inputs});
    });
  });
}

template <class T>
void jvp(const Network<T>& network, const std::type_identity_t<Inputs<T>>& X, const MatrixArgument<T>& V, Tape<T>& tape,
         T* to, const BetweenBlocks& between) {
  const Index L = network.depth();
  if (V.rows() != X.rows() || V.cols() != network.inputs())
    throw std::invalid_argument("V is (" + std::to_string(V.rows()) + ", " + std::to_string(V.cols()) +
                                "); expected (" + std::to_string(X.rows()) + ", " + std::to_string(network.inputs()) +
                                ")");
  in_tape_blocks(network, X.rows(), 2, tape, between, [&](Range block) {
    forward_for_slopes<T>(network, X.part(block.begin, block.end), tape);
    const Index n = block.size();
    const int all_threads = threads_for(forward_operations(network, n));
    const Index parts = parts_through(network, n, pitch<T>(network.widest()), all_threads);
    const bool packed = parts > 1 && fits_packed<T>(network);
    const auto panels = [&](Index l) { return packed ? tape.weight_panels(l) : nullptr; };
    pack_weights(network, network.parameters().data(), all_threads, panels, no_panels<T>);
    const Index wide = pitch<T>(network.inputs());  // rows of V may be a power of two apart
    through_layers(network, n, parts, all_threads, wide, [&](Range rows, int threads, T* memory) {
      Rows<T> before{memory, wide};
      copy<T>(rows.size(), network.inputs(), Rows<const T>{V.data(), V.outerStride()}.from(block.begin + rows.begin),
              before);
      // Ra_l takes the place of δ_l, which this pass does without.
      for (Index l = 1; l <= L; ++l) {
        const Weights<T> weights{network, l, panels(l)};
        const Rows<T> Ra = rows_of(tape.delta(l), rows.begin);
        in_forward_blocks(network, l, rows.size(), threads, false, [&](Range part_of, Range columns) {
          const Rows<T> to_part = Ra.from(part_of.begin).columns_from(columns.begin);
          weights.forward(part_of.size(), before.from(part_of.begin), columns, to_part, false);
          Slopes<T>::of(network, tape, l, rows.begin + part_of.begin, columns)
              .times_derivative(part_of.size(), to_part);
        });
        before = Ra;
      }
      copy<T>(rows.size(), network.outputs(), before,
              {to + (block.begin + rows.begin) * network.outputs(), network.outputs()});
    });
  });
}

template <class T>
void per_sample_gradients(const Network<T>& network, const Loss& loss, const Samples<T>& samples, Tape<T>& tape, T* to,
                          const BetweenBlocks& between) {
  // What it takes is writing it all down.
  for_samples(network, loss, samples, tape, 4 * forward_operations(network, 1), between, [&](Index i, Index row) {
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
                  if (const double of_delta = sum_of_squares(tape.delta(l), row, network.units(l)); of_delta != 0)
                    total += sum_of_squares(tape.activation(l - 1), row, network.units(l - 1) + 1) * of_delta;
                to[i] = static_cast<T>(std::sqrt(total));
              });
}

template <class T>
void hvp(const Network<T>& network, const Loss& loss, const Samples<T>& samples, ConstVectorView<T> v, Tape<T>& tape,
         Tape<T>& R, VectorView<T> to, const BetweenBlocks& between) {
  check_size(network, "v", v.size());
  check_size(network, "the result", to.size());
  if (!R.is_for(network) || !R.fits(tape.capacity(), {.pre_activations = true}))
    throw std::invalid_argument("R is a tape that keeps pre-activations and holds as many rows as the other");
  const double total = Batch<T>{samples, samples.X.rows()}.weight();
  if (total == 0 && samples.X.rows() > 0) {
    to.setZero();
    return;
  }
  const double scale = 1 / mean_divisor(loss, network.outputs(), total);
  bool add = false;
  in_tape_blocks(network, samples.X.rows(), 8, tape, between, [&](Range block) {
    const Batch<T> batch{samples.from(block.begin), block.size()};
    check_batch(network, loss, batch);
    check_tape(network, tape, batch.size);
    fill_loss_parameters(loss, network.outputs(), tape.loss_parameter());
    tape.set_rows(batch.size);
    R.set_rows(batch.size);
    Sweeps<T>(network, tape, {.logits_only = from_logits(loss)})
        .by_rows(
            [&](Range rows) {
              load_inputs(batch, rows, rows_of(tape.activation(0)));
              load_targets(batch, scale, rows, tape);
            },
            nullptr);
    ROperator<T> r(network, loss, tape, R, v);
    r.by_rows();
    r.by_weights(to, add);
    add = true;
  });
}

#define CHAINRULE_INSTANTIATE(T)                                                                                       \
  template void jacobian(const Network<T>&, const std::type_identity_t<Inputs<T>>&, Tape<T>&, T*,                      \
                         const BetweenBlocks&);                                                                        \
  template void input_gradient(const Network<T>&, const std::type_identity_t<Inputs<T>>&, Index, Tape<T>&, T*,         \
                               const BetweenBlocks&);                                                                  \
  template void jvp(const Network<T>&, const std::type_identity_t<Inputs<T>>&, const MatrixArgument<T>&, Tape<T>&, T*, \
                    const BetweenBlocks&);                                                                             \
  template void per_sample_gradients(const Network<T>&, const Loss&, const Samples<T>&, Tape<T>&, T*,                  \
                                     const BetweenBlocks&);                                                            \
  template void per_sample_gradient_norms(const Network<T>&, const Loss&, const Samples<T>&, Tape<T>&, T*,             \
                                          const BetweenBlocks&);                                                       \
  template void hvp(const Network<T>&, const Loss&, const Samples<T>&, ConstVectorView<T>, Tape<T>&, Tape<T>&,         \
                    VectorView<T>, const BetweenBlocks&);
CHAINRULE_INSTANTIATE(float)
CHAINRULE_INSTANTIATE(double)

}  // namespace chainrule
