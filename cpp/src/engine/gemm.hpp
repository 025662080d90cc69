#pragma once

#include "kernels.hpp"
#include "vector.hpp"

namespace chainrule::engine::CHAINRULE_ISA {

// The product of small matrices that everything else rests on. One micro-kernel serves all three products of
// backpropagation: z (A = a), dW (A = aᵀ, by its strides) and da (B = Wᵀ, packed).

/// A tile's accumulators must fit the registers, with one left for each vector of B and one for A.
inline constexpr int tile_vectors = 2;
inline constexpr int max_tile_rows = (vector_registers - tile_vectors - 1) / tile_vectors;
/// C (M, V·NV) = or += A (M, k) B (k, V·NV); or, with `resume`, the sum goes on from C as if it had never left the
/// registers. With `packs`, B is copied to `panel` on the way.
template <bool resume, bool packs, class V, int M, int NV>
CHAINRULE_INLINE void tile_into(Size k, const typename V::Scalar* A, Size row_stride, Size column_stride,
                                const typename V::Scalar* B, Size ldb, typename V::Scalar* C, Size ldc, bool add,
                                typename V::Scalar* panel = nullptr) {
  V sum[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) sum[i][j] = resume ? V::load(C + i * ldc + j * V::size) : V(0);
  // Few enough addresses for the registers: of many rows GCC makes one for each, and keeps some elsewhere.
  const typename V::Scalar *row_5 = A + 5 * row_stride, *row_10 = A + 10 * row_stride;
  Size three_rows = 3 * row_stride;
  for (Size p = 0; p < k; ++p) {
    if constexpr (M > 6) asm("" : "+r"(A), "+r"(row_5), "+r"(row_10), "+r"(three_rows));
    V b[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) b[j] = V::load(B + j * V::size);
    if constexpr (packs) {
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) b[j].store(panel + j * V::size);
      panel += NV * V::size;
    }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const auto* near = i < 5 ? A : i < 10 ? row_5 : row_10;
      const V a = V(near[i % 5 == 3 ? three_rows : i % 5 * row_stride]);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) sum[i][j] = fma(a, b[j], sum[i][j]);
    }
    A += column_stride;
    row_5 += column_stride;
    row_10 += column_stride;
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

template <class V, int M, int NV>
void tile(Size k, const typename V::Scalar* A, Size row_stride, Size column_stride, const typename V::Scalar* B,
          Size ldb, typename V::Scalar* C, Size ldc, bool add) {
  tile_into<false, false, V, M, NV>(k, A, row_stride, column_stride, B, ldb, C, ldc, add);
}

/// `tile` of a whole panel, which packs it.
template <class V, int M>
void packing_tile(Size k, const typename V::Scalar* A, Size row_stride, const typename V::Scalar* B, Size ldb,
                  typename V::Scalar* C, Size ldc, bool add, typename V::Scalar* panel) {
  tile_into<false, true, V, M, tile_vectors>(k, A, row_stride, 1, B, ldb, C, ldc, add, panel);
}

template <class T>
using Tile = void (*)(Size k, const T* A, Size row_stride, Size column_stride, const T* B, Size ldb, T* C, Size ldc,
                      bool add);

/// `tile` of a full register and one of half its width: processors that take full registers by halves save a quarter.
template <class T, int M>
void tile_and_half(Size k, const T* A, Size row_stride, Size column_stride, const T* B, Size ldb, T* C, Size ldc,
                   bool add) {
  tile<FullVec<T>, M, 1>(k, A, row_stride, column_stride, B, ldb, C, ldc, add);
  tile<HalfVec<T>, M, 1>(k, A, row_stride, column_stride, B + lanes<T>, ldb, C + lanes<T>, ldc, add);
}

/// The tiles of one width, by their rows.
template <class T>
struct Tiles {
  Tile<T> of_rows[max_tile_rows + 1];
};

template <class V, int NV, int... M>
constexpr Tiles<typename V::Scalar> make_tiles(Ints<M...>) {
  return {{nullptr, tile<V, M + 1, NV>...}};
}

template <class T, int... M>
constexpr Tiles<T> make_tiles_and_half(Ints<M...>) {
  return {{nullptr, tile_and_half<T, M + 1>...}};
}

/// Widths, in numbers: a panel (two registers), one and a half, one, and its halves down to 16 bytes for narrow layers
/// and the last columns of others.
template <class T>
struct TileTable {
  static constexpr Tiles<T> panel = make_tiles<FullVec<T>, tile_vectors>(Lanes<max_tile_rows>{});
  static constexpr Tiles<T> full = make_tiles<FullVec<T>, 1>(Lanes<max_tile_rows>{});
  static constexpr int half_lanes = HalfVec<T>::size;
  static constexpr Tiles<T> full_and_half = make_tiles_and_half<T>(Lanes<max_tile_rows>{});
  static constexpr int quarter_lanes = vector_bytes >= 64 ? lanes<T> / 4 : half_lanes;
  static constexpr Tiles<T> half = make_tiles<HalfVec<T>, 1>(Lanes<max_tile_rows>{});
  static constexpr Tiles<T> quarter = make_tiles<Vec<T, quarter_lanes>, 1>(Lanes<max_tile_rows>{});

  static const Tiles<T>& for_columns(Size n) {
    if constexpr (vector_bytes == 64)
      if (n > lanes<T> && n <= lanes<T> + half_lanes) return full_and_half;
    if (n > lanes<T>) return panel;
    if (n > half_lanes) return full;
    if (n > quarter_lanes) return half;
    return quarter;
  }
};

template <class T>
inline constexpr Size panel_columns = tile_vectors * lanes<T>;

/// C (m, ≤ panel) = or += A (m, k) B, for one panel of B and k ≤ longest_block.
template <class T>
void multiply_panel(Size m, Size columns, Size k, const T* A, Size row_stride, Size column_stride, const T* B, Size ldb,
                    Rows<T> C, bool add) {
  const Tiles<T>& of_width = TileTable<T>::for_columns(columns);
  // Even tiles: 16 rows are two tiles of 8, not one of 14 and one of 2, which would wait for its own sums.
  const Size tiles = parts_of(m, max_tile_rows);
  const Size fewest = tiles > 1 ? m / tiles : m, one_more = m - tiles * fewest;
  for (Size t = 0, row = 0; t < tiles; ++t) {
    const Size rows = t < one_more ? fewest + 1 : fewest;
    of_width.of_rows[rows](k, A + row * row_stride, row_stride, column_stride, B, ldb, C.row(row), C.pitch, add);
    row += rows;
  }
}

/// The same for one block and all columns, of so few rows that the sums of one panel would wait for each other's
/// additions: two or four panels at a time, of a B whose panels lie side by side.
inline constexpr Size few_rows = 3;
template <class T>
void multiply_few(Size m, Size n, Size k, const T* A, Size row_stride, Size column_stride, const T* B, Size ldb,
                  Rows<T> C, bool add) {
  using V = FullVec<T>;
  constexpr Tile<T> twice[] = {tile<V, 1, 2 * tile_vectors>, tile<V, 2, 2 * tile_vectors>,
                               tile<V, 3, 2 * tile_vectors>};
  Size j = 0;
  const auto take = [&](Tile<T> of_width, Size width) {
    for (; n - j >= width; j += width) of_width(k, A, row_stride, column_stride, B + j, ldb, C.data + j, C.pitch, add);
  };
  if (m == 1) take(tile<V, 1, 4 * tile_vectors>, 4 * panel_columns<T>);
  take(twice[m - 1], 2 * panel_columns<T>);
  for (; j < n; j += panel_columns<T>)
    multiply_panel(m, n - j, k, A, row_stride, column_stride, B + j, ldb, C.columns_from(j), add);
}

template <class T>
void multiply(Size m, Size n, Size k, const T* A, Size row_stride, Size column_stride, Panels<T> B, Rows<T> C,
              bool add) {
  const Size blocks = sum_blocks(k);
  // A single tile is most of what the smallest networks ask for.
  if (0 < m && m <= max_tile_rows && 0 < n && n <= panel_columns<T> && blocks == 1)
    return TileTable<T>::for_columns(n).of_rows[m](k, A, row_stride, column_stride, B.data, B.row_stride, C.data,
                                                   C.pitch, add);
  for (Size block = 0; block < blocks; ++block) {
    const Range summed = part(k, blocks, block);
    const T *a = A + summed.begin * column_stride, *b = B.data + summed.begin * B.row_stride;
    if (0 < m && m <= few_rows && B.panel_stride == panel_columns<T>) {
      multiply_few(m, n, summed.size(), a, row_stride, column_stride, b, B.row_stride, C, add || block > 0);
      continue;
    }
    for (Size j = 0; j < n; j += panel_columns<T>, b += B.panel_stride)
      multiply_panel(m, n - j, summed.size(), a, row_stride, column_stride, b, B.row_stride,
                     Rows<T>{C.data + j, C.pitch}, add || block > 0);
  }
}

/// C (M, n) += A (M, k) B of tiles side by side, as if the sums had never left the registers, for whole panels of a
/// row-major B and a small k.
template <class V, int M>
void tiles_across(Size n, Size k, const typename V::Scalar* A, Size row_stride, const typename V::Scalar* B, Size ldb,
                  typename V::Scalar* C, Size ldc) {
  constexpr int NV = M == 1 ? 4 * tile_vectors : M <= few_rows ? 2 * tile_vectors : tile_vectors;
  Size j = 0;
  for (; n - j >= NV * V::size; j += NV * V::size)
    tile_into<true, false, V, M, NV>(k, A, row_stride, 1, B + j, ldb, C + j, ldc, false);
  if constexpr (NV > tile_vectors)
    for (; j < n; j += tile_vectors * V::size)
      tile_into<true, false, V, M, tile_vectors>(k, A, row_stride, 1, B + j, ldb, C + j, ldc, false);
}

template <class T, int... M>
constexpr auto packing_tiles_of_rows(Ints<M...>) {
  using Packing =
      void (*)(Size k, const T* A, Size row_stride, const T* B, Size ldb, T* C, Size ldc, bool add, T* panel);
  struct Table {
    Packing of_rows[max_tile_rows + 1];
  };
  return Table{{nullptr, packing_tile<FullVec<T>, M + 1>...}};
}

template <class T, int... M>
constexpr auto tiles_across_of_rows(Ints<M...>) {
  using Across = void (*)(Size n, Size k, const T* A, Size row_stride, const T* B, Size ldb, T* C, Size ldc);
  struct Table {
    Across of_rows[max_tile_rows + 1];
  };
  return Table{{nullptr, tiles_across<FullVec<T>, M + 1>...}};
}

/// One panel of at most longest_block rows from B (k, columns), rows ldb apart.
template <class T>
void pack_panel(Size k, Size columns, const T* B, Size ldb, T* panel) {
  using V = FullVec<T>;
  if (columns >= panel_columns<T>) {
    for (Size p = 0; p < k; ++p, panel += panel_columns<T>)
      for (int v = 0; v < tile_vectors; ++v) V::load(B + p * ldb + v * V::size).store(panel + v * V::size);
    return;
  }
  for (Size p = 0; p < k; ++p, panel += panel_columns<T>)
    for (int v = 0; v < tile_vectors; ++v) {
      const int left = static_cast<int>(columns) - v * V::size;
      (left > 0 ? V::load(B + p * ldb + v * V::size, left) : V(0)).store(panel + v * V::size);
    }
}

/// to (columns, V::size) = the transpose of `rows` rows of `columns` numbers, at most V::size each, and zeros.
template <class V>
CHAINRULE_INLINE void transpose_block(int rows, int columns, const typename V::Scalar* from, Size ldb,
                                      typename V::Scalar* to, Size ldt) {
  V row[V::size], next[V::size];
#pragma GCC unroll 16
  for (int i = 0; i < V::size; ++i) row[i] = i < rows ? V::load(from + i * ldb, columns) : V(0);
  // Interleaving row i with row i + N/2, log₂ N times over, brings every number to its place.
#pragma GCC unroll 4
  for (int width = 1; width < V::size; width *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < V::size / 2; ++i) {
      next[2 * i] = interleave_low(row[i], row[i + V::size / 2]);
      next[2 * i + 1] = interleave_high(row[i], row[i + V::size / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < V::size; ++i) row[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < V::size; ++i)
    if (i < columns) row[i].store(to + i * ldt);
}

/// One panel of Bᵀ, of B (columns, k), rows ldb apart.
template <class T>
void pack_transposed_panel(Size k, Size columns, const T* B, Size ldb, T* panel) {
  using V = FullVec<T>;
  constexpr Size width = panel_columns<T>;
  for (Size p = 0; p < k; p += V::size)
    for (Size c = 0; c < width; c += V::size) {
      const T* from = B + c * ldb + p;
      T* to = panel + p * width + c;
      if (columns - c >= V::size && k - p >= V::size)
        transpose_block<V>(V::size, V::size, from, ldb, to, width);
      else
        transpose_block<V>(static_cast<int>(columns - c), static_cast<int>(k - p < V::size ? k - p : V::size), from,
                           ldb, to, width);
    }
}

template <class T>
void pack(Size k, Size n, const T* B, Size ldb, T* panels) {
  for (Size j = 0; j < n; j += panel_columns<T>, panels += k * panel_columns<T>)
    pack_panel(k, n - j, B + j, ldb, panels);
}

template <class T>
void pack_transposed(Size k, Size n, const T* B, Size ldb, T* panels) {
  for (Size j = 0; j < n; j += panel_columns<T>, panels += k * panel_columns<T>)
    pack_transposed_panel(k, n - j, B + j * ldb, ldb, panels);
}

/// See Kernels::prefetch. Not into the first level of cache: rows that are a power of two apart share few of its sets,
/// and would drive each other out before they are used.
template <class T>
CHAINRULE_INLINE void prefetch(Size rows, Size columns, const T* data, Size stride) {
  constexpr Size line = 64 / static_cast<Size>(sizeof(T));
  if (columns == stride) {
    columns *= rows;
    rows = 1;
  }
  for (Size r = 0; r < rows; ++r, data += stride) {
    for (Size c = 0; c < columns; c += line) __builtin_prefetch(data + c, 0, 2);
    __builtin_prefetch(data + columns - 1, 0, 2);
  }
}

/// c_i = or += Σ_p A(i, p) b_p, i < M, with lanes for p.
template <class V, int M>
void dot_products(Size k, const typename V::Scalar* A, Size row_stride, const typename V::Scalar* b,
                  typename V::Scalar* c, Size ldc, bool add) {
  V sum[V::size];
#pragma GCC unroll 16
  for (int i = 0; i < V::size; ++i) sum[i] = V(0);
  const auto take = [&](Size p, int width) __attribute__((always_inline)) {
    const V factor = V::load(b + p, width);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) sum[i] = fma(V::load(A + i * row_stride + p, width), factor, sum[i]);
  };
  Size p = 0;
  for (; p + V::size <= k; p += V::size) take(p, V::size);
  if (p < k) take(p, static_cast<int>(k - p));
  typename V::Scalar of_rows[V::size];
  sums(sum).store(of_rows);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) c[i * ldc] = add ? c[i * ldc] + of_rows[i] : of_rows[i];
}

template <class T, int... M>
constexpr auto dot_products_of_rows(Ints<M...>) {
  using Dots = void (*)(Size k, const T* A, Size row_stride, const T* b, T* c, Size ldc, bool add);
  struct Table {
    Dots of_rows[lanes<T> + 1];
  };
  return Table{{nullptr, dot_products<FullVec<T>, M + 1>...}};
}

template <class T>
void multiply_column(Size m, Size k, const T* A, Size row_stride, const T* b, Size b_stride, Rows<T> C, bool add) {
  static constexpr auto dots = dot_products_of_rows<T>(Lanes<lanes<T>>{});
  alignas(64) T dense[longest_block];
  const Size blocks = sum_blocks(k);
  for (Size block = 0; block < blocks; ++block) {
    const Range summed = part(k, blocks, block);
    const T* of_block = b + summed.begin * b_stride;
    if (b_stride != 1) {
      for (Size p = 0; p < summed.size(); ++p) dense[p] = of_block[p * b_stride];
      of_block = dense;
    }
    for (Size row = 0; row < m; row += lanes<T>)
      dots.of_rows[m - row < lanes<T> ? m - row : lanes<T>](summed.size(), A + row * row_stride + summed.begin,
                                                            row_stride, of_block, C.row(row), C.pitch,
                                                            add || block > 0);
  }
}

/// `multiply` for a B that is too large to be packed as a whole: a strip of columns at a time, and of that a block of
/// the sum, whose panels are packed as the first tile needs them. While all rows are multiplied by one block the next
/// is on its way from memory: of these columns, or of the next ones, which are likely to be asked for next. Where there
/// are too many rows for A and C to stay near, so are, while a tile is summed up, its part of C and the next one's of
/// A.
template <bool Transposed, class T>
void multiply_large(Size m, Size n, Size k, const T* A, Size row_stride, const T* B, Size ldb, Rows<T> C, bool add) {
  static constexpr auto packing = packing_tiles_of_rows<T>(Lanes<max_tile_rows>{});
  constexpr Size strip = strip_columns<T>, rows_asked = parts_of(max_tile_rows * panel_columns<T>, strip);
  alignas(64) T panels[longest_block * strip];
  const Size blocks = sum_blocks(k), tiles = parts_of(m, max_tile_rows);
  const bool many = tiles > 16;
  for (Size j = 0; j < n; j += strip) {
    const Size columns = n - j < strip ? n - j : strip;
    for (Size block = 0; block < blocks; ++block) {
      const Range summed = part(k, blocks, block);
      const Size length = summed.size();
      const bool add_here = add || block > 0, last = block + 1 == blocks;

      // The part of tile t in asking for what of B comes next.
      const auto ask_for_next = [&](Size t) __attribute__((always_inline)) {
        const Size row = last ? 0 : summed.end, column = last ? j + strip : j;
        const Size next_length = part(k, blocks, last ? 0 : block + 1).size();
        const Range asked = part(Transposed ? columns : next_length, tiles, t);
        if constexpr (Transposed)
          prefetch(asked.size(), next_length, B + (column + asked.begin) * ldb + row, ldb);
        else
          prefetch(asked.size(), columns, B + (row + asked.begin) * ldb + column, ldb);
      };
      // The tile of these rows and the panel from column c on, which the first tile packs, on its way where it can.
      const auto multiply_panel = [&](Range rows, Size c, bool first) __attribute__((always_inline)) {
        const T* const a = A + rows.begin * row_stride + summed.begin;
        T *const panel = panels + c * length, *const sums = C.row(rows.begin) + j + c;
        if constexpr (Transposed) {
          if (first) pack_transposed_panel(length, columns - c, B + (j + c) * ldb + summed.begin, ldb, panel);
        } else if (first) {
          const T* const b = B + summed.begin * ldb + j + c;
          if (columns - c >= panel_columns<T>)
            return packing.of_rows[rows.size()](length, a, row_stride, b, ldb, sums, C.pitch, add_here, panel);
          pack_panel(length, columns - c, b, ldb, panel);
        }
        TileTable<T>::for_columns(columns - c)
            .of_rows[rows.size()](length, a, row_stride, 1, panel, panel_columns<T>, sums, C.pitch, add_here);
      };

      for (Size t = 0; t < tiles; ++t) {
        const Range rows = part(m, tiles, t);
        ask_for_next(t);
        Size asked = many ? rows.end : m;  // the next tile's rows of A, a few with each panel
        for (Size c = 0; c < columns; c += panel_columns<T>, asked += rows_asked) {
          if (asked < m)
            prefetch(m - asked < rows_asked ? m - asked : rows_asked, length, A + asked * row_stride + summed.begin,
                     row_stride);
          if (many && add_here) prefetch(rows.size(), 1, C.row(rows.begin) + j + c, C.pitch);
          multiply_panel(rows, c, t == 0);
        }
      }
    }
  }
}

/// `multiply` for a B that is far, and few rows: B in the order in which it lies in memory, a few of its rows at a
/// time, over a strip of columns whose sums stay in the first-level cache.
template <class T>
void multiply_far(Size m, Size n, Size k, const T* A, Size row_stride, const T* B, Size ldb, Rows<T> C, bool add) {
  using V = FullVec<T>;
  static constexpr auto across = tiles_across_of_rows<T>(Lanes<max_tile_rows>{});
  constexpr Size widest = 4096 / sizeof(T);
  const Size strip = m <= few_rows ? widest : widest / 2, at_once = m < few_rows ? 8 : 16;
  alignas(64) T memory[far_tiles * max_tile_rows * widest / 2];
  const Rows<T> sums{memory, strip};
  const Size blocks = sum_blocks(k), tiles = parts_of(m, max_tile_rows),
             whole = n / panel_columns<T> * panel_columns<T>;
  for (Size j = 0; j < whole; j += strip) {
    const Size columns = whole - j < strip ? whole - j : strip;
    for (Size block = 0; block < blocks; ++block) {
      const Range summed = part(k, blocks, block);
      for (Size i = 0; i < m * strip; i += V::size) V(0).store(memory + i);
      for (Size p = summed.begin; p < summed.end; p += at_once)
        for (Size t = 0; t < tiles; ++t) {
          const Range rows = part(m, tiles, t);
          across.of_rows[rows.size()](columns, summed.end - p < at_once ? summed.end - p : at_once,
                                      A + rows.begin * row_stride + p, row_stride, B + p * ldb + j, ldb,
                                      sums.row(rows.begin), strip);
        }
      for (Size r = 0; r < m; ++r)
        for (Size c = 0; c < columns; c += V::size) {
          T* to = C.row(r) + j + c;
          const V sum = V::load(sums.row(r) + c);
          (add || block > 0 ? V::load(to) + sum : sum).store(to);
        }
    }
  }
  if (whole < n) multiply_large<false>(m, n - whole, k, A, row_stride, B + whole, ldb, C.columns_from(whole), add);
}

}  // namespace chainrule::engine::CHAINRULE_ISA
