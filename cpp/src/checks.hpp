#pragma once

#include <stdexcept>
#include <string>

#include "chainrule/batch.hpp"
#include "chainrule/loss.hpp"
#include "chainrule/network.hpp"
#include "chainrule/tape.hpp"

namespace chainrule {

// What the algorithm's memory accesses rest on, checked where it is entered: std::invalid_argument otherwise.

/// X is (n, d_0).
template <class T>
void check_inputs(const Network<T>& network, const Inputs<T>& X) {
  if (X.cols() != network.inputs())
    throw std::invalid_argument("X has " + std::to_string(X.cols()) + " columns; this network takes " +
                                std::to_string(network.inputs()));
}

/// The first n of y, or those that `order` names, are numbers for the outputs, or labels 0 … d_L - 1.
template <class T>
void check_targets(const Network<T>& network, const Loss& loss, const Targets<T>& y, Index n,
                   const Index* order = nullptr) {
  check(loss);
  const Index outputs = network.outputs();
  if (!y.labels) {
    if (y.columns != outputs && y.columns * outputs_per_target(loss) != outputs)  // as the loss sees it, or as given
      throw std::invalid_argument("y has " + std::to_string(y.columns) + " columns; expected " +
                                  std::to_string(outputs / outputs_per_target(loss)));
    return;
  }
  for (Index i = 0; i < n; ++i)
    if (const std::int64_t label = y.labels[order ? order[i] : i]; label < 0 || label >= outputs)
      throw std::invalid_argument("y holds the label " + std::to_string(label) + "; expected labels from 0 to " +
                                  std::to_string(outputs - 1));
}

/// X is (N, d_0) and y fits it and the outputs, for the n samples of a batch.
template <class T>
void check_batch(const Network<T>& network, const Loss& loss, const Batch<T>& batch) {
  const Samples<T>& samples = batch.samples;
  check_inputs(network, samples.X);
  if (batch.size < 1) throw std::invalid_argument("the batch is empty; expected at least one row");
  if (samples.X.rows() != samples.y.rows)
    throw std::invalid_argument("X has " + std::to_string(samples.X.rows()) + " rows and y " +
                                std::to_string(samples.y.rows) + "; expected as many");
  const Index rows = batch.order ? samples.X.rows() : batch.size;
  if (samples.X.rows() < rows)
    throw std::invalid_argument("the batch has " + std::to_string(rows) + " rows; X has " +
                                std::to_string(samples.X.rows()));
  for (Index i = 0; batch.order && i < batch.size; ++i)
    if (batch.order[i] < 0 || batch.order[i] >= rows)
      throw std::invalid_argument("order holds " + std::to_string(batch.order[i]) + "; X has rows 0 to " +
                                  std::to_string(rows - 1));
  check_targets(network, loss, samples.y, batch.size, batch.order);
}

/// The tape is for such a network.
template <class T>
void check_tape(const Network<T>& network, Tape<T>& tape) {
  if (!tape.is_for(network)) throw std::invalid_argument("the tape was made for a network of other layers");
}

/// And has room for the rows.
template <class T>
void check_tape(const Network<T>& network, Tape<T>& tape, Index rows, TapeContents contents = {}) {
  if (rows < 1) throw std::invalid_argument("the batch is empty; expected at least one row");
  check_tape(network, tape);
  if (!tape.fits(rows, contents))
    throw std::invalid_argument("the tape is too small for " + std::to_string(rows) + " rows");
}

/// A vector laid out like θ.
template <class T>
void check_size(const Network<T>& network, const char* what, Index size) {
  if (size != network.parameter_count())
    throw std::invalid_argument(std::string(what) + " has " + std::to_string(size) + " entries; this network has " +
                                std::to_string(network.parameter_count()) + " parameters");
}

}  // namespace chainrule
