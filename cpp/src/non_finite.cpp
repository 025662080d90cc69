#include "chainrule/non_finite.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "loss_mean.hpp"
#include "number.hpp"
#include "parameter_name.hpp"

namespace chainrule {

namespace {

/// Looks through one matrix after the other, up to the first number that is not finite.
class Search {
 public:
  explicit Search(NonFinite& found) : found_(found) {}

  template <class Matrix>
  bool in(const Matrix& m, const std::string& tensor, Index layer, NonFinite::Cause cause) {
    for (Index r = 0; r < m.rows(); ++r)
      for (Index c = 0; c < m.cols(); ++c)
        if (finds(static_cast<double>(m(r, c)), r, c, tensor, layer, cause)) return true;
    return false;
  }

  /// In what is stored of a batch of sparse samples.
  template <class T>
  bool in_stored(const Batch<T>& batch) {
    for (Index r = 0; r < batch.size; ++r) {
      const auto x = batch.samples.X.stored(batch.row(r));
      for (Index k = 0; k < x.count; ++k)
        if (finds(static_cast<double>(x.values[k]), r, x.columns[k], "X", 0, NonFinite::Cause::bad_input)) return true;
    }
    return false;
  }

 private:
  bool finds(double value, Index row, Index column, const std::string& tensor, Index layer, NonFinite::Cause cause) {
    if (std::isfinite(value)) return false;
    found_.cause = cause;
    found_.tensor = tensor;
    found_.layer = layer;
    found_.row = row;
    found_.column = column;
    found_.value = value;
    return true;
  }

  NonFinite& found_;
};

template <class T>
bool search(const Network<T>& network, const Loss& loss, const Batch<T>& batch, const Objective& objective,
            Tape<T>& tape, Index first, NonFinite& found) {
  using Cause = NonFinite::Cause;
  Vector<T> g(network.parameter_count());
  found.loss = gradient(network, loss, batch, tape, VectorView<T>(g.data(), g.size()), objective);
  const Index L = network.depth();
  Search search(found);
  const bool is_found = [&] {
    const bool sparse = batch.samples.X.mostly_zeros();
    if (sparse ? search.in_stored(batch) : search.in(tape.activation(0), "X", 0, Cause::bad_input)) return true;
    for (Index l = 1; l <= L; ++l) {
      if (search.in(network.weight(l), weight_name(l), l, Cause::bad_weight)) return true;
      if (search.in(network.bias(l), bias_name(l), l, Cause::bad_weight)) return true;
      if (search.in(tape.pre_activation(l), "z", l, Cause::overflow)) return true;
      if (search.in(tape.activation(l), "a", l, Cause::overflow)) return true;
      if (search.in(tape.passed_on(l), "a", l, Cause::overflow)) return true;  // what drops out makes the rest larger
    }
    if (search.in(tape.target(), "y", L, Cause::bad_input)) return true;
    Vector<double> losses(tape.rows());
    for (Index r = 0; r < tape.rows(); ++r) losses[r] = weighted(batch.weight(r), tape.row_loss()[r]);
    if (search.in(losses, "loss", L, Cause::overflow)) return true;
    for (Index l = L; l > 0; --l)
      if (search.in(tape.delta(l), "delta", l, Cause::overflow)) return true;
    for (Index l = 1; l <= L; ++l) {
      const ConstMatrixView<T> weight(g.data() + network.offset(l), network.units(l - 1), network.units(l),
                                      Eigen::OuterStride<>(network.units(l)));
      if (search.in(weight, weight_name(l) + " gradient", l, Cause::overflow)) return true;
      const ConstVectorView<T> bias(g.data() + network.bias_offset(l), network.units(l));
      if (search.in(bias, bias_name(l) + " gradient", l, Cause::overflow)) return true;
    }
    return false;
  }();
  if (is_found && found.is_of_sample()) found.row = first + batch.row(found.row);
  return is_found;
}

std::string text(const NonFinite& where) {
  std::string result =
      where.epoch > 0 ? "epoch " + std::to_string(where.epoch) + ", batch " + std::to_string(where.batch) + ": " : "";
  result += where.tensor + " holds " + text_of(where.value) + " at row " + std::to_string(where.row) + ", column " +
            std::to_string(where.column);
  if (where.cause == NonFinite::Cause::overflow)
    result += " of layer " + std::to_string(where.layer) + ": an overflow there, from finite numbers";
  return result + ". The parameters are those before that step";
}

}  // namespace

template <class T>
std::optional<NonFinite> find_non_finite(const Network<T>& network, const Loss& loss, const Batch<T>& batch,
                                         const Objective& objective, const std::optional<MaskDraw>& draw, Index first) {
  const TapeContents contents{.inputs = !batch.samples.X.mostly_zeros(), .pre_activations = true};
  const Index at_a_time = rows_at_a_time(network, batch.size, contents);
  Tape<T> tape(network, at_a_time, contents);
  const double weight = batch.weight();
  for (Index from = 0; from < batch.size; from += at_a_time) {
    const Batch<T> part = batch.part(from, std::min(at_a_time, batch.size - from), weight);
    if (draw) tape.set_draw(draw->from(from));
    NonFinite found;
    if (search(network, loss, part, objective, tape, first + (batch.order ? 0 : from), found)) return found;
    if (std::isfinite(found.loss)) continue;
    // The mean of finite losses, too many of them large.
    found.layer = network.depth();
    found.value = found.loss;
    return found;
  }
  return {};
}

std::optional<NonFinite> found_by_any(const std::optional<NonFinite>& found, Ranks& ranks) {
  std::vector<double> lengths(static_cast<std::size_t>(ranks.size));  // of the tensor's name; 0 where nothing was found
  if (found) lengths[static_cast<std::size_t>(ranks.rank)] = static_cast<double>(found->tensor.size());
  ranks.sum(lengths.data(), ranks.size);
  const auto finder = std::find_if(lengths.begin(), lengths.end(), [](double length) { return length > 0; });
  if (finder == lengths.end()) return {};
  constexpr std::size_t numbers = 6;
  std::vector<double> content(numbers + static_cast<std::size_t>(*finder));
  if (finder - lengths.begin() == ranks.rank) {
    content = {static_cast<double>(found->cause),
               static_cast<double>(found->layer),
               static_cast<double>(found->row),
               static_cast<double>(found->column),
               found->value,
               found->loss};
    content.insert(content.end(), found->tensor.begin(), found->tensor.end());
  }
  ranks.sum(content.data(), static_cast<Index>(content.size()));
  NonFinite result;
  result.cause = static_cast<NonFinite::Cause>(content[0]);
  result.layer = static_cast<Index>(content[1]);
  result.row = static_cast<Index>(content[2]);
  result.column = static_cast<Index>(content[3]);
  result.value = content[4];
  result.loss = content[5];
  result.tensor.assign(content.begin() + numbers, content.end());
  return result;
}

NonFiniteError::NonFiniteError(NonFinite where) : std::runtime_error(text(where)), where(std::move(where)) {}

template std::optional<NonFinite> find_non_finite(const Network<float>&, const Loss&, const Batch<float>&,
                                                  const Objective&, const std::optional<MaskDraw>&, Index);
template std::optional<NonFinite> find_non_finite(const Network<double>&, const Loss&, const Batch<double>&,
                                                  const Objective&, const std::optional<MaskDraw>&, Index);

}  // namespace chainrule
