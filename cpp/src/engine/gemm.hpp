#pragma once

#include "kernels.hpp"
#include "vector.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

// The product of small matrices that everything else rests on. One micro-kernel serves all three products of
// backpropagation: z (A = a), dW (A = aᵀ, by its strides) and da (B = Wᵀ, packed).

template <int... I>
struct Ints {};
template <int N, int... I>
struct FirstInts : FirstInts<N - 1, N - 1, I...> {};
template <int... I>
struct FirstInts<0, I...> {
  using type = Ints<I...>;
};
template <int N>
inline constexpr typename FirstInts<N>::type first_ints{};

/// A tile's accumulators must fit the registers, with one left for each vector of B and one for A.
inline constexpr int tile_vectors = 2;
inline constexpr int max_tile_rows = (vector_registers - tile_vectors - 1) / tile_vectors;
/// Longer sums are cut into blocks, each summed in registers: B's block stays in the second-level cache, and rounding
/// errors grow with the number of blocks.
inline constexpr Size sum_block = 512;

/// C (M, V·NV) = or += A (M, k) B (k, V·NV)
template <class V, int M, int NV>
void tile(Size k, const typename V::Scalar* A, Size row_stride, Size column_stride, const typename V::Scalar* B, Size ldb,
          typename V::Scalar* C, Size ldc, bool add) {
  V sum[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) sum[i][j] = V(0);
  for (Size p = 0; p < k; ++p) {
    V b[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) b[j] = V::load(B + j * V::size);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const V a = V(A[i * row_stride]);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) sum[i][j] = fma(a, b[j], sum[i][j]);
    }
    A += column_stride;
    B += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      auto* c = C + i * ldc + j * V::size;
      (add ? V::load(c) + sum[i][j] : sum[i][j]).store(c);
    }
}

template <class T>
using Tile = void (*)(Size k, const T* A, Size row_stride, Size column_stride, const T* B, Size ldb, T* C, Size ldc,
                      bool add);

/// The tiles of one width, by their rows.
template <class T>
struct Tiles {
  Tile<T> of_rows[max_tile_rows + 1];
};

template <class V, int NV, int... M>
constexpr Tiles<typename V::Scalar> make_tiles(Ints<M...>) {
  return {{nullptr, tile<V, M + 1, NV>...}};
}

/// Widths, in numbers: a panel (two registers), one register, and its halves down to 16 bytes for narrow layers and
/// the last columns of others.
template <class T>
struct TileTable {
  static constexpr Tiles<T> panel = make_tiles<FullVec<T>, tile_vectors>(first_ints<max_tile_rows>);
  static constexpr Tiles<T> full = make_tiles<FullVec<T>, 1>(first_ints<max_tile_rows>);
  static constexpr int half_lanes = vector_bytes >= 32 ? lanes<T> / 2 : lanes<T>;
  static constexpr int quarter_lanes = vector_bytes >= 64 ? lanes<T> / 4 : half_lanes;
  static constexpr Tiles<T> half = make_tiles<Vec<T, half_lanes>, 1>(first_ints<max_tile_rows>);
  static constexpr Tiles<T> quarter = make_tiles<Vec<T, quarter_lanes>, 1>(first_ints<max_tile_rows>);

  static const Tiles<T>& for_columns(Size n) {
    if (n > lanes<T>) return panel;
    if (n > half_lanes) return full;
    if (n > quarter_lanes) return half;
    return quarter;
  }
};

template <class T>
inline constexpr Size panel_columns = tile_vectors * lanes<T>;

template <class T>
void multiply(Size m, Size n, Size k, const T* A, Size row_stride, Size column_stride, Panels<T> B, Rows<T> C) {
  // Even tiles: 16 rows are two tiles of 8, not one of 14 and one of 2, which would wait for its own sums.
  const Size tiles = (m + max_tile_rows - 1) / max_tile_rows;
  for (Size t = 0; t < tiles; ++t) {
    const Size row = m * t / tiles, rows = m * (t + 1) / tiles - row;
    for (Size begin = 0; begin == 0 || begin < k; begin += sum_block) {
      const Size length = k - begin < sum_block ? k - begin : sum_block;
      const T* a = A + row * row_stride + begin * column_stride;
      const T* b = B.data + begin * B.row_stride;
      for (Size j = 0; j < n; j += panel_columns<T>, b += B.panel_stride)
        TileTable<T>::for_columns(n - j).of_rows[rows](length, a, row_stride, column_stride, b, B.row_stride,
                                                       C.row(row) + j, C.pitch, begin > 0);
    }
  }
}

template <class T>
void pack(Size k, Size n, const T* B, Size ldb, T* panels) {
  using V = FullVec<T>;
  for (Size j = 0; j < n; j += panel_columns<T>) {
    const int columns = static_cast<int>(n - j < panel_columns<T> ? n - j : panel_columns<T>);
    for (Size p = 0; p < k; ++p, panels += panel_columns<T>) {
      const T* row = B + p * ldb + j;
      if (columns == panel_columns<T>) {
        for (int v = 0; v < tile_vectors; ++v) V::load(row + v * V::size).store(panels + v * V::size);
      } else {
        for (int v = 0; v < tile_vectors; ++v) {
          const int left = columns - v * V::size;
          (left > 0 ? V::load(row + v * V::size, left) : V(0)).store(panels + v * V::size);
        }
      }
    }
  }
}

template <class T>
void pack_transposed(Size k, Size n, const T* B, Size ldb, T* panels) {
  for (Size j = 0; j < n; j += panel_columns<T>, panels += k * panel_columns<T>) {
    const Size columns = n - j < panel_columns<T> ? n - j : panel_columns<T>;
    for (Size c = 0; c < columns; ++c) {
      const T* row = B + (j + c) * ldb;
      for (Size p = 0; p < k; ++p) panels[p * panel_columns<T> + c] = row[p];
    }
    for (Size p = 0; p < k; ++p)
      for (Size c = columns; c < panel_columns<T>; ++c) panels[p * panel_columns<T> + c] = T(0);
  }
}

}  // namespace chainrule::engine::CHAINRULE_ISA
