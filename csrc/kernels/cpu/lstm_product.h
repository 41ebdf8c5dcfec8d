// Matrix products of the LSTM, included once for each ISA level: tiles of rows times vectors whose
// sums stay in registers. Every element is summed over the depth in order, whatever the tile.
#pragma once

#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// As many sums as leave registers for the operands: 24 of 32 or 12 of 16.
constexpr int kTileRows = kLanes == 16 ? 8 : 4;
constexpr int kPanelVectors = kLanes == 4 ? 2 : 3;
constexpr int64_t kPanel = kPanelVectors * kLanes;

// Floats of a cache line: so many rows or columns a transposition takes at once.
constexpr int64_t kLine = 16;

constexpr int64_t vectors_of(int64_t columns) { return (columns + kLanes - 1) / kLanes; }

FUSIONKIT_INLINE Floats<kLanes> load_part(const float* from, int64_t count) {
  return count >= kLanes ? load<kLanes>(from)
                         : load_first<kLanes>(from, count > 0 ? static_cast<int>(count) : 0);
}

FUSIONKIT_INLINE void store_part(float* to, Floats<kLanes> v, int64_t count) {
  if (count >= kLanes) {
    store<kLanes>(to, v);
  } else if (count > 0) {
    store_first<kLanes>(to, v, static_cast<int>(count));
  }
}

// Matrix (depth, columns) with these strides into panels of up to kPanel columns each, rounded up
// to whole vectors with zeros.
void pack(const float* matrix, int64_t row_stride, int64_t column_stride, int64_t depth,
          int64_t columns, float* packed) {
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t count = std::min(kPanel, columns - column);
    const int64_t width = vectors_of(count) * kLanes;
    const float* panel = matrix + column * column_stride;
    if (column_stride == 1) {
      for (int64_t k = 0; k < depth; ++k) {
        for (int64_t n = 0; n < count; ++n) packed[k * width + n] = panel[k * row_stride + n];
      }
    } else {
      for (int64_t first = 0; first < depth; first += kLine) {
        const int64_t end = std::min(depth, first + kLine);
        for (int64_t n = 0; n < count; ++n) {
          const float* from = panel + n * column_stride;
          for (int64_t k = first; k < end; ++k) packed[k * width + n] = from[k * row_stride];
        }
      }
    }
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t n = count; n < width; ++n) packed[k * width + n] = 0.0f;
    }
    packed += depth * width;
  }
}

// out[m][n] = start[m][n] + sum_k a[m][k] panel[k][n] for M rows and the `count` columns from
// `column` on, a panel of V vectors; without `start` the sums begin at 0.
template <int M, int V>
void multiply_tile(const float* const* a, int64_t depth, const float* panel,
                   const float* const* start, float* const* out, int64_t column, int64_t count) {
  Floats<kLanes> sum[M][V];
  const float* rows[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    rows[m] = a[m];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      sum[m][v] = Floats<kLanes>{};
      // They come from far, and are wanted only after the sums.
      if (start != nullptr) __builtin_prefetch(start[m] + column + v * kLanes);
    }
  }
  for (int64_t k = 0; k < depth; ++k, panel += V * kLanes) {
    Floats<kLanes> right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load<kLanes>(panel + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Floats<kLanes> factor = broadcast<kLanes>(rows[m][k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] += factor * right[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t at = column + v * kLanes, rest = count - v * kLanes;
      if (start != nullptr) sum[m][v] += load_part(start[m] + at, rest);
      store_part(out[m] + at, sum[m][v], rest);
    }
  }
}

template <int M, int V>
void multiply_rows(int64_t rows, const float* const* a, int64_t depth, const float* panel,
                   const float* const* start, float* const* out, int64_t column, int64_t count) {
  if (rows == M) {
    multiply_tile<M, V>(a, depth, panel, start, out, column, count);
  } else if constexpr (M > 1) {
    multiply_rows<M - 1, V>(rows, a, depth, panel, start, out, column, count);
  }
}

template <int V>
void multiply_panel(int64_t rows, const float* const* a, int64_t depth, const float* panel,
                    const float* const* start, float* const* out, int64_t column, int64_t count) {
  for (int64_t row = 0; row < rows; row += kTileRows) {
    multiply_rows<kTileRows, V>(std::min<int64_t>(kTileRows, rows - row), a + row, depth, panel,
                                start == nullptr ? nullptr : start + row, out + row, column, count);
  }
}

// Rows of `out` = rows of `start` (0 without) + rows of `a` times a packed matrix (depth, columns).
// A row of `start` may be that of `out`.
void multiply(int64_t rows, const float* const* a, int64_t depth, const float* packed,
              int64_t columns, const float* const* start, float* const* out) {
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t count = std::min(kPanel, columns - column);
    const int64_t vectors = vectors_of(count);
    if (vectors == kPanelVectors) {
      multiply_panel<kPanelVectors>(rows, a, depth, packed, start, out, column, count);
    } else if (vectors == 2) {
      multiply_panel<2>(rows, a, depth, packed, start, out, column, count);
    } else {
      multiply_panel<1>(rows, a, depth, packed, start, out, column, count);
    }
    packed += vectors * kLanes * depth;
  }
}

// sums[m][n] += sum_k a[k][column + m] panel[k][n] for M columns of `a` and a panel of V vectors.
template <int M, int V>
void multiply_transposed_tile(int64_t depth, const float* const* a, int64_t column,
                              const float* panel, float* sums) {
  Floats<kLanes> sum[M][V] = {};
  for (int64_t k = 0; k < depth; ++k, panel += V * kLanes) {
    const float* left = a[k] + column;
    Floats<kLanes> right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load<kLanes>(panel + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Floats<kLanes> factor = broadcast<kLanes>(left[m]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] += factor * right[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* to = sums + (m * V + v) * kLanes;
      store<kLanes>(to, load<kLanes>(to) + sum[m][v]);
    }
  }
}

template <int M, int V>
void multiply_transposed_columns(int64_t columns, int64_t depth, const float* const* a,
                                 int64_t column, const float* panel, float* sums) {
  if (columns == M) {
    multiply_transposed_tile<M, V>(depth, a, column, panel, sums);
  } else if constexpr (M > 1) {
    multiply_transposed_columns<M - 1, V>(columns, depth, a, column, panel, sums);
  }
}

// sums (columns, V vectors) += transposed `a` (depth, columns) times V vectors from `b_column` on
// of `b` (depth, ...), which are packed first: their rows are as many pages as a TLB has entries.
template <int V>
void multiply_transposed(int64_t columns, int64_t depth, const float* const* a,
                         const float* const* b, int64_t b_column, float* packed, float* sums) {
  for (int64_t k = 0; k < depth; ++k) {
    for (int v = 0; v < V; ++v) {
      store<kLanes>(packed + (k * V + v) * kLanes, load<kLanes>(b[k] + b_column + v * kLanes));
    }
  }
  for (int64_t column = 0; column < columns; column += kTileRows) {
    multiply_transposed_columns<kTileRows, V>(std::min<int64_t>(kTileRows, columns - column), depth,
                                              a, column, packed, sums + column * V * kLanes);
  }
}

// out[row][column] = sums[column][row]; rows of `sums` and `out` are so many numbers apart.
void write_transposed(const float* sums, int64_t width, int64_t rows, int64_t columns, float* out,
                      int64_t stride) {
  for (int64_t first = 0; first < columns; first += kLine) {
    const int64_t end = std::min(columns, first + kLine);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = first; column < end; ++column) {
        out[row * stride + column] = sums[column * width + row];
      }
    }
  }
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
