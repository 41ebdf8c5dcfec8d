// The inner loops of attention: small products between rows in memory, read as they lie, and tiles
// whose lanes are other rows. A tile is (count, N) or (size, N) floats, 64-byte aligned.
#pragma once

#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kSumBlock = 32;

struct Block4x4 {
  Floats<4> row[4];
};

FUSIONKIT_INLINE Block4x4 transposed(const Block4x4& in) {
  const Floats<4> a = __builtin_shufflevector(in.row[0], in.row[1], 0, 4, 1, 5);
  const Floats<4> b = __builtin_shufflevector(in.row[0], in.row[1], 2, 6, 3, 7);
  const Floats<4> c = __builtin_shufflevector(in.row[2], in.row[3], 0, 4, 1, 5);
  const Floats<4> d = __builtin_shufflevector(in.row[2], in.row[3], 2, 6, 3, 7);
  return {{__builtin_shufflevector(a, c, 0, 1, 4, 5), __builtin_shufflevector(a, c, 2, 3, 6, 7),
           __builtin_shufflevector(b, d, 0, 1, 4, 5), __builtin_shufflevector(b, d, 2, 3, 6, 7)}};
}

// Of 4 rows only the first `real` are read, the others are 0.
FUSIONKIT_INLINE Block4x4 load_block(const float* rows, int64_t stride, int real) {
  Block4x4 block{};
  if (real == 4) {
    for (int r = 0; r < 4; ++r) block.row[r] = load<4>(rows + r * stride);
  } else {
    for (int r = 0; r < real; ++r) block.row[r] = load<4>(rows + r * stride);
  }
  return block;
}

// Calls each(d) so that [d, d + 4) cover [0, size), the last ones twice where 4 does not divide
// size.
template <class Each>
FUSIONKIT_INLINE void in_fours(int64_t size, Each&& each) {
  for (int64_t d = 0; d + 4 <= size; d += 4) each(d);
  if (size % 4 != 0) each(size - 4);
}

// tile[d][i] = rows[i][d] * factor for i < count, 0 in the other lanes.
template <int N>
void pack_lanes(float* __restrict tile, const float* __restrict rows, int64_t stride, int count,
                int64_t size, float factor) {
  for (int i = 0; i < N; i += 4, rows += 4 * stride) {
    const int real = std::min(4, count - i);
    if (real <= 0) {
      for (int64_t d = 0; d < size; ++d) store<4>(tile + d * N + i, Floats<4>{});
    } else if (size < 4) {
      for (int64_t d = 0; d < size; ++d) {
        for (int r = 0; r < 4; ++r) {
          tile[d * N + i + r] = r < real ? rows[r * stride + d] * factor : 0.0f;
        }
      }
    } else {
      in_fours(size, [&](int64_t d) {
        Block4x4 block = load_block(rows + d, stride, real);
        for (int r = 0; r < 4; ++r) block.row[r] *= factor;
        block = transposed(block);
        for (int r = 0; r < 4; ++r) store<4>(tile + (d + r) * N + i, block.row[r]);
      });
    }
  }
}

// rows[i][d] = tile[d][i] * factor for i < count.
template <int N>
void unpack_lanes(float* __restrict rows, int64_t stride, const float* __restrict tile, int count,
                  int64_t size, float factor) {
  for (int i = 0; i < count; i += 4) {
    const int end = std::min(i + 4, count);
    if (size < 4) {
      for (int64_t d = 0; d < size; ++d) {
        for (int r = i; r < end; ++r) rows[r * stride + d] = tile[d * N + r] * factor;
      }
      continue;
    }
    in_fours(size, [&](int64_t d) {
      Block4x4 block;
      for (int r = 0; r < 4; ++r) block.row[r] = load<4>(tile + (d + r) * N + i) * factor;
      block = transposed(block);
      for (int r = i; r < end; ++r) store<4>(rows + r * stride + d, block.row[r - i]);
    });
  }
}

// result[i] = sum_d a[i][d] * b[i][d] for 4 rows, the first `real` of them read; in the order of
// dot_rows, so with its bits.
FUSIONKIT_INLINE Floats<4> dot_four(const float* a, int64_t a_stride, const float* b,
                                    int64_t b_stride, int real, int64_t size) {
  Floats<4> sum{};
  int64_t d = 0;
  for (; d + 4 <= size; d += 4) {
    const Block4x4 left = transposed(load_block(a + d, a_stride, real));
    const Block4x4 right = transposed(load_block(b + d, b_stride, real));
    for (int c = 0; c < 4; ++c) sum += left.row[c] * right.row[c];
  }
  for (; d < size; ++d) {
    Floats<4> left{}, right{};
    for (int r = 0; r < real; ++r) {
      left[r] = a[r * a_stride + d];
      right[r] = b[r * b_stride + d];
    }
    sum += left * right;
  }
  return sum;
}

// to[d] = from[d] * factor for d < size.
FUSIONKIT_INLINE void copy_row(float* __restrict to, const float* __restrict from, int64_t size,
                               float factor) {
  if (size < 4) {
    for (int64_t d = 0; d < size; ++d) to[d] = from[d] * factor;
    return;
  }
  in_fours(size, [&](int64_t d) { store<4>(to + d, load<4>(from + d) * factor); });
}

// Bias in base 2; a finite one stays finite, for -inf means something else: no weight at all.
template <int N>
FUSIONKIT_INLINE Floats<N> bias_in_base_2(Floats<N> bias) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  return bias == -__builtin_inff() ? bias : maximum<N>(broadcast<N>(kLowest), bias * kLog2E);
}

// result[r] = sum_d lanes[d] * rows[r][d] for R rows.
template <int N, int R>
FUSIONKIT_INLINE void dot_rows(const float* lanes, const float* rows, int64_t stride, int64_t size,
                               Floats<N> (&result)[R]) {
  for (int r = 0; r < R; ++r) result[r] = Floats<N>{};
  for (int64_t d = 0; d < size; ++d) {
    const Floats<N> lane = load<N>(lanes + d * N);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) result[r] += lane * rows[r * stride + d];
  }
}

// sums[c] += sum_r tile[r] * rows[r][c] for C columns. Every kSumBlock rows are summed from 0: long
// sums lose less by rounding that way.
template <int N, int C>
void add_columns(float* __restrict sums, const float* __restrict tile, const float* __restrict rows,
                 int64_t stride, int64_t count) {
  // Few columns alone would wait for each other's sums.
  constexpr int kChains = C <= 4 ? 2 : 1;
  for (int64_t r = 0; r < count;) {
    const int64_t end = std::min(r + kSumBlock, count);
    Floats<N> sum[kChains][C] = {};
    for (; r + kChains <= end; r += kChains) {
#pragma GCC unroll 2
      for (int u = 0; u < kChains; ++u) {
        const Floats<N> weight = load<N>(tile + (r + u) * N);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum[u][c] += weight * rows[(r + u) * stride + c];
      }
    }
    for (; r < end; ++r) {
      const Floats<N> weight = load<N>(tile + r * N);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[0][c] += weight * rows[r * stride + c];
    }
    for (int c = 0; c < C; ++c) {
      if constexpr (kChains == 2) sum[0][c] += sum[1][c];
      store<N>(sums + c * N, load<N>(sums + c * N) + sum[0][c]);
    }
  }
}

// Calls part.run<n>(first) for equal parts of at most 8 of `count`: a small last part would wait
// for its own sums.
template <class Part>
FUSIONKIT_INLINE void in_equal_parts(int64_t count, Part&& part) {
  const int64_t parts = (count + 7) / 8;
  int64_t first = 0;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t n = (count - first + parts - i - 1) / (parts - i);
    switch (n) {
      case 1:
        part.template run<1>(first);
        break;
      case 2:
        part.template run<2>(first);
        break;
      case 3:
        part.template run<3>(first);
        break;
      case 4:
        part.template run<4>(first);
        break;
      case 5:
        part.template run<5>(first);
        break;
      case 6:
        part.template run<6>(first);
        break;
      case 7:
        part.template run<7>(first);
        break;
      default:
        part.template run<8>(first);
        break;
    }
    first += n;
  }
}

// The same for any number of columns.
template <int N>
struct ColumnParts {
  float* sums;
  const float* tile;
  const float* rows;
  int64_t stride;
  int64_t count;

  template <int C>
  FUSIONKIT_INLINE void run(int64_t first) {
    add_columns<N, C>(sums + first * N, tile, rows + first, stride, count);
  }
};

template <int N>
void add_product(float* sums, const float* tile, const float* rows, int64_t stride, int64_t count,
                 int64_t size) {
  in_equal_parts(size, ColumnParts<N>{sums, tile, rows, stride, count});
}

// sums[i] += sum_j tile[i][j] * rows[j] for R rows i of M lanes each; tile rows have N lanes.
template <int N, int M, int R>
FUSIONKIT_INLINE void add_rows(float* __restrict sums, const float* __restrict tile,
                               const float* __restrict rows, int64_t stride, int64_t count) {
  Floats<M> sum[R] = {};
  for (int64_t j = 0; j < count; ++j) {
    const Floats<M> row = load<M>(rows + j * stride);
    const float* weights = tile + j;
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) sum[i] += row * weights[i * N];
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    store<M>(sums + i * stride, load<M>(sums + i * stride) + sum[i]);
  }
}

// The same for any number of rows of `stride` floats, a multiple of M.
template <int N, int M>
void add_transposed_product(float* sums, const float* tile, const float* rows, int64_t stride,
                            int64_t num_rows, int count) {
  for (int64_t c = 0; c < stride; c += M) {
    int64_t i = 0;
    for (; i + 8 <= num_rows; i += 8) {
      add_rows<N, M, 8>(sums + i * stride + c, tile + i * N, rows + c, stride, count);
    }
    for (; i + 2 <= num_rows; i += 2) {
      add_rows<N, M, 2>(sums + i * stride + c, tile + i * N, rows + c, stride, count);
    }
    if (i < num_rows) {
      add_rows<N, M, 1>(sums + i * stride + c, tile + i * N, rows + c, stride, count);
    }
  }
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
