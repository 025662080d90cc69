#include "tensor_sums.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace chainrule {

namespace {

/// With NaN or infinities among the entries, or squares beyond the range of numbers: one by one.
template <class T>
GradientSums one_by_one(Index rows, Index columns, engine::Rows<const T> gradient) {
  GradientSums sums;
  const auto each_finite = [&](const auto& use) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c)
        if (const double g = std::abs(static_cast<double>(gradient.row(r)[c])); std::isfinite(g)) use(g);
  };
  Index finite = 0;
  each_finite([&](double g) {
    ++finite;
    sums.absolute += g;
    sums.largest = std::max(sums.largest, g);
    sums.zeros += g == 0;
  });
  double scaled_squares = 0;
  if (sums.largest > 0) each_finite([&](double g) { scaled_squares += g / sums.largest * (g / sums.largest); });
  sums.far_norm = sums.largest * std::sqrt(scaled_squares);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) sums.nan += std::isnan(gradient.row(r)[c]);
  sums.inf = rows * columns - finite - sums.nan;
  return sums;
}

}  // namespace

void GradientSums::operator+=(const GradientSums& other) {
  absolute += other.absolute;
  squares += other.squares;
  largest = std::max(largest, other.largest);
  if (other.far_norm > 0) far_norm = std::hypot(far_norm, other.far_norm);
  zeros += other.zeros;
  nan += other.nan;
  inf += other.inf;
}

void TensorSums::operator+=(const TensorSums& other) {
  gradient += other.gradient;
  change_squares += other.change_squares;
  theta_squares += other.theta_squares;
}

template <class T>
void add(TensorSums& sums, const engine::Sums& found, Index rows, Index columns, engine::Rows<const T> gradient) {
  if (squares_hold<T>(found.squares, rows * columns) || (found.squares == 0 && found.largest == 0))
    sums.gradient +=
        {.absolute = found.absolute, .squares = found.squares, .largest = found.largest, .zeros = found.zeros};
  else
    sums.gradient += one_by_one(rows, columns, gradient);
  sums.change_squares += found.change_squares;
  sums.theta_squares += found.theta_squares;
}

template <class T>
std::vector<Piece> pieces_of(const Network<T>& network) {
  constexpr Index piece = 16384;
  std::vector<Piece> pieces;
  const auto cut = [&](std::size_t tensor, Index offset, Index size) {
    const Index count = (size + piece - 1) / piece;
    for (Index i = 0; i < count; ++i) {
      const engine::Range range = engine::part(size, count, i);
      pieces.push_back({tensor, {offset + range.begin, offset + range.end}});
    }
  };
  for (Index l = 1; l <= network.depth(); ++l) {
    cut(static_cast<std::size_t>(2 * l - 2), network.offset(l), network.weight(l).size());
    cut(static_cast<std::size_t>(2 * l - 1), network.bias_offset(l), network.units(l));
  }
  return pieces;
}

template <class T>
std::vector<TensorSums> tensor_sums(const Network<T>& network, const T* gradient) {
  std::vector<TensorSums> sums(static_cast<std::size_t>(2 * network.depth()));
  add_pieces(network, 4.0 * static_cast<double>(network.parameter_count()), sums,
             [&](TensorSums& of_piece, engine::Range range) {
               engine::Sums found;
               engine::kernels<T>().gradient_sums(range.size(), gradient + range.begin, &found);
               add<T>(of_piece, found, 1, range.size(), {gradient + range.begin, 0});
             });
  return sums;
}

template void add(TensorSums&, const engine::Sums&, Index, Index, engine::Rows<const float>);
template void add(TensorSums&, const engine::Sums&, Index, Index, engine::Rows<const double>);
template std::vector<Piece> pieces_of(const Network<float>&);
template std::vector<Piece> pieces_of(const Network<double>&);
template std::vector<TensorSums> tensor_sums(const Network<float>&, const float*);
template std::vector<TensorSums> tensor_sums(const Network<double>&, const double*);

}  // namespace chainrule
