// Tiles and fragments for the tensor cores: half precision, head dims from 17 on. Numbers stand in
// words of two; a thread's place in fragments is that of fk::mma_16816.
#pragma once

#include "attention_tile.cuh"

namespace fusionkit {
namespace cuda {

// Words between rows of a tile: threads that read a fragment meet no bank twice.
__host__ __device__ constexpr int padded_words(int numbers) { return numbers / 2 + 4; }

constexpr int kMmaRows = 64;  // of a block, 16 a warp

// A thread's place in fragments: row (or column) `group`, and words `word` and `word + 4` of it.
struct MmaPlace {
  int warp, group, word;
  __device__ __forceinline__ MmaPlace()
      : warp(static_cast<int>(threadIdx.x) / fk::kWarpSize),
        group(fk::lane() / 4),
        word(fk::lane() % 4) {}
};

template <class T>
__device__ __forceinline__ void unpack2(uint32_t word, float (&numbers)[2]) {
  fk::Pack<T, 2> pack;
  memcpy(&pack, &word, sizeof(word));
  numbers[0] = fk::to_float(pack.values[0]);
  numbers[1] = fk::to_float(pack.values[1]);
}

template <class T, int N>
__device__ __forceinline__ void copy_words(const T* from, uint32_t (&words)[N]) {
  fk::check_aligned(from, sizeof(words));
  const auto pack = *reinterpret_cast<const fk::Pack<T, 2 * N>*>(from);
  memcpy(words, &pack, sizeof(words));
}

// Elements [first, first + 2 N) of a row of `size`, zeros beyond.
template <int N, class T>
__device__ __forceinline__ void load_words(const T* row, int first, int size, bool vectors,
                                           uint32_t (&words)[N]) {
  if (vectors && first + 2 * N <= size) {
    copy_words(row + first, words);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int at = first + 2 * i;
    words[i] = fk::pack2<T>(at < size ? fk::to_float(row[at]) : 0.0f,
                            at + 1 < size ? fk::to_float(row[at + 1]) : 0.0f);
  }
}

// Rows [first, first + count) of a head into a tile of STEPS rows, zeros below them and where
// `live(row)` does not hold.
template <class T, int DIM, int STEPS, class Live>
__device__ __forceinline__ void stage_words(uint32_t* tile, const T* head,
                                            const AttentionTensor& tensor, int size, int first,
                                            int count, Live live) {
  constexpr int kPieces = DIM / 4;
  for (int i = static_cast<int>(threadIdx.x); i < STEPS * kPieces; i += kAttentionThreads) {
    const int step = i / kPieces, piece = i % kPieces;
    uint32_t words[2] = {0, 0};
    if (step < count && live(first + step)) {
      const T* row = head + static_cast<int64_t>(first + step) * tensor.step_stride;
      load_words(row, 4 * piece, size, tensor.vectors, words);
    }
    uint32_t* to = tile + step * padded_words(DIM) + 2 * piece;
    *reinterpret_cast<fk::Pack<uint32_t, 2>*>(to) = {{words[0], words[1]}};
  }
}

// The same transposed: a row of the tile is a dim, with STEPS steps.
template <class T, int DIM, int STEPS, class Live>
__device__ __forceinline__ void stage_transposed(uint32_t* tile, const T* head,
                                                 const AttentionTensor& tensor, int size, int first,
                                                 int count, Live live) {
  constexpr int kPairs = STEPS / 2;
  for (int i = static_cast<int>(threadIdx.x); i < kPairs * DIM / 4; i += kAttentionThreads) {
    const int pair = i % kPairs, dim = i / kPairs * 4;
    uint32_t words[2][2] = {{0, 0}, {0, 0}};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int step = 2 * pair + k;
      if (step < count && live(first + step)) {
        const T* row = head + static_cast<int64_t>(first + step) * tensor.step_stride;
        load_words(row, dim, size, tensor.vectors, words[k]);
      }
    }
    uint32_t* to = tile + dim * padded_words(STEPS) + pair;
#pragma unroll
    for (int d = 0; d < 4; ++d) {
      const int shift = d % 2 * 16;
      to[d * padded_words(STEPS)] =
          (words[0][d / 2] >> shift & 0xFFFF) | (words[1][d / 2] >> shift & 0xFFFF) << 16;
    }
  }
}

// 16 rows of a head as the left factor: rows `row` and `row + 8` are this thread's; zeros from
// `limit` on and where `live(row)` does not hold.
template <class T, int DIM, class Live>
__device__ __forceinline__ void load_left(uint32_t (&left)[DIM / 16][4], const T* head,
                                          const AttentionTensor& tensor, int size, int row,
                                          int limit, int word, Live live) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = row + 8 * half;
    const bool real = at < limit && live(at);
    const T* from = head + static_cast<int64_t>(at) * tensor.step_stride;
#pragma unroll
    for (int k = 0; k < DIM / 16; ++k) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        uint32_t words[1] = {0};
        if (real) load_words(from, 16 * k + 8 * side + 2 * word, size, tensor.vectors, words);
        left[k][half + 2 * side] = words[0];
      }
    }
  }
}

// products[j] = left (16, 16 K) times the transposed rows 8 j .. 8 j + 7 of a tile with `stride`
// words a row.
template <class T, int K, int N>
__device__ __forceinline__ void multiply(float (&products)[N][4], const uint32_t (&left)[K][4],
                                         const uint32_t* tile, int stride, const MmaPlace& place) {
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const uint32_t* row = tile + (8 * j + place.group) * stride + place.word;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const uint32_t right[2] = {row[8 * k], row[8 * k + 4]};
      fk::mma_16816<T>(products[j], left[k], right);
    }
  }
}

// The same with the left factor in shared memory, 16 rows of padded_words(16 K) words.
template <class T, int K, int N>
__device__ __forceinline__ void multiply_staged(float (&products)[N][4], const uint32_t* staged,
                                                const uint32_t* tile, const MmaPlace& place) {
  constexpr int kStride = padded_words(16 * K);
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const uint32_t* at = staged + place.group * kStride + 8 * k + place.word;
    const uint32_t left[4] = {at[0], at[8 * kStride], at[4], at[8 * kStride + 4]};
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const uint32_t* row = tile + (8 * j + place.group) * kStride + 8 * k + place.word;
      const uint32_t right[2] = {row[0], row[4]};
      fk::mma_16816<T>(products[j], left, right);
    }
  }
}

// sums (16, 8 N) += weights (16, 8 M), rounded to T, times a tile whose rows are the columns of
// `sums`.
template <class T, int M, int N>
__device__ __forceinline__ void multiply_weights(float (&sums)[N][4], const float (&weights)[M][4],
                                                 const uint32_t* tile, int stride,
                                                 const MmaPlace& place) {
#pragma unroll
  for (int k = 0; k < M / 2; ++k) {
    const uint32_t left[4] = {fk::pack2<T>(weights[2 * k][0], weights[2 * k][1]),
                              fk::pack2<T>(weights[2 * k][2], weights[2 * k][3]),
                              fk::pack2<T>(weights[2 * k + 1][0], weights[2 * k + 1][1]),
                              fk::pack2<T>(weights[2 * k + 1][2], weights[2 * k + 1][3])};
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const uint32_t* row = tile + (8 * j + place.group) * stride + 8 * k + place.word;
      const uint32_t right[2] = {row[0], row[4]};
      fk::mma_16816<T>(sums[j], left, right);
    }
  }
}

// Two neighbouring numbers of a row of `size`.
template <class T>
__device__ __forceinline__ void store_pair(T* row, int first, int size, bool vectors, float a,
                                           float b) {
  if (vectors && first + 2 <= size) {
    const float pair[2] = {a, b};
    fk::store<2>(row + first, pair);
    return;
  }
  if (first < size) row[first] = fk::from_float<T>(a);
  if (first + 1 < size) row[first + 1] = fk::from_float<T>(b);
}

// Writes rows `row` and `row + 8` of a product, times a factor each; those below `limit`.
template <class T, int N>
__device__ __forceinline__ void store_product(const AttentionTensor& tensor, T* head, int size,
                                              int row, int limit, int word,
                                              const float (&product)[N][4],
                                              const float (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = row + 8 * half;
    if (at >= limit) continue;
    T* to = head + static_cast<int64_t>(at) * tensor.step_stride;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      // Not by a product: 0 times NaN would be NaN.
      const bool zero = factor[half] == 0.0f;
      store_pair(to, 8 * j + 2 * word, size, tensor.vectors,
                 zero ? 0.0f : product[j][2 * half] * factor[half],
                 zero ? 0.0f : product[j][2 * half + 1] * factor[half]);
    }
  }
}

// Of the columns 2 word, 2 word + 1 of eight from `base` on, in rows `row` and `row + 8`, which
// weights stay: bits 0, 1 and 2, 3. Two neighbouring threads need the same four columns: each makes
// the random words of one row.
__device__ __forceinline__ unsigned mma_keep_bits(uint64_t seed, uint32_t threshold, int base,
                                                  int row, int head, int batch, int word) {
  const int own = word % 2;
  unsigned bits = keep_bits(seed, threshold, base / 4 + word / 2, row + 8 * own, head, batch)
                  << 4 * own;
  bits |= fk::shuffle_xor(bits, 1);
  bits >>= 2 * own;
  return (bits & 3) | (bits >> 4 & 3) << 2;
}

}  // namespace cuda
}  // namespace fusionkit
