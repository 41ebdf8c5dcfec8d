// Tiles of keys or query rows in shared memory, and how the threads of a warp share a row.
//
// A row belongs to `kLanes` neighbouring threads, each with `kPart` of its dims; with them work
// 2^split_shift such groups on the same row, each on other blocks of four steps of the other side.
#pragma once

#include "attention.h"
#include "device.cuh"
#include "philox.cuh"

namespace fusionkit {
namespace cuda {

constexpr int kAttentionThreads = 128;  // of a block
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kLowest = -3.402823466e38f;

// Of head dims up to DIM: 4, 6, 8, 12, 16, 32, 64 or 128. Dims are read four at a time; of 6 only
// six are multiplied.
template <int DIM>
struct AttentionLayout {
  static constexpr int kLanes = DIM > 16 ? DIM / 16 : 1;
  static constexpr int kPart = DIM / kLanes;
  static constexpr int kPieces = (kPart + 3) / 4;
  static constexpr int kRowPieces = kPieces * kLanes;
  // Floats between rows of a tile, so that eight threads that read four floats each, of as many
  // rows as they work on, meet no bank twice.
  static constexpr int kStride =
      DIM == 4 || DIM == 12 || DIM == 128 ? DIM : 4 * kRowPieces + 4 * kLanes;
  // Steps of a tile: at most 48 KB for two tensors.
  static constexpr int kSteps = DIM <= 8 ? 256 : DIM <= 16 ? 128 : DIM <= 64 ? 64 : 32;
};

__host__ __device__ __forceinline__ int attention_tile_steps(int steps, int most) {
  const int whole = (steps + 3) / 4 * 4;
  return whole < most ? whole : most;
}

// Where a thread stands among those that share its row.
template <int DIM>
struct AttentionPlace {
  int lane;    // in [0, kLanes): which pieces of four dims are its own
  int split;   // which blocks of steps
  int splits;  // how many there are
  int group;   // which row of the block
  int groups;  // rows of the block

  __device__ __forceinline__ explicit AttentionPlace(int split_shift) {
    constexpr int kLanes = AttentionLayout<DIM>::kLanes;
    const int sharing = static_cast<int>(threadIdx.x) / kLanes;
    lane = static_cast<int>(threadIdx.x) % kLanes;
    splits = 1 << split_shift;
    split = sharing & (splits - 1);
    group = sharing >> split_shift;
    groups = kAttentionThreads / kLanes >> split_shift;
  }
};

__device__ __forceinline__ int attention_length(const int64_t* lengths, int batch, int most) {
  if (lengths == nullptr) return most;
  const int64_t length = lengths[batch];
  return length < 0 ? 0 : length > most ? most : static_cast<int>(length);
}

template <class T>
__device__ __forceinline__ T* attention_head(const AttentionTensor& tensor, int batch, int head) {
  return static_cast<T*>(tensor.data) + static_cast<int64_t>(batch) * tensor.batch_stride +
         static_cast<int64_t>(head) * tensor.head_stride;
}

// Elements [first, first + 4) of a row of `size`, zeros beyond.
template <class T>
__device__ __forceinline__ void load_piece(const T* row, int first, int size, bool vectors,
                                           float (&piece)[4]) {
  if (vectors && first + 4 <= size) {
    fk::load4(row + first, piece);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) piece[i] = first + i < size ? fk::to_float(row[first + i]) : 0.0f;
}

template <class T>
__device__ __forceinline__ void store_piece(T* row, int first, int size, bool vectors,
                                            const float (&piece)[4]) {
  if (vectors && first + 4 <= size) {
    fk::store4(row + first, piece);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (first + i < size) row[first + i] = fk::from_float<T>(piece[i]);
  }
}

// The part of a row that is a thread's own, times `factor`; zeros if not `real`.
template <class T, int DIM>
__device__ __forceinline__ void load_part(const T* row, int size, bool vectors, int lane, bool real,
                                          float factor, float* part) {
  using Layout = AttentionLayout<DIM>;
#pragma unroll
  for (int w = 0; w < Layout::kPieces; ++w) {
    float piece[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (real) load_piece(row, 4 * (lane + w * Layout::kLanes), size, vectors, piece);
#pragma unroll
    for (int i = 0; i < 4 && 4 * w + i < Layout::kPart; ++i) part[4 * w + i] = piece[i] * factor;
  }
}

template <class T, int DIM>
__device__ __forceinline__ void store_part(T* row, int size, bool vectors, int lane, float factor,
                                           const float* part) {
  using Layout = AttentionLayout<DIM>;
#pragma unroll
  for (int w = 0; w < Layout::kPieces; ++w) {
    float piece[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < 4 && 4 * w + i < Layout::kPart; ++i) piece[i] = part[4 * w + i] * factor;
    store_piece(row, 4 * (lane + w * Layout::kLanes), size, vectors, piece);
  }
}

// Where step 4 block + j of a tile lies, whose steps make `blocks` blocks of four: blocks that
// different threads read at the same time are neighbours.
__device__ __forceinline__ int tile_row(int block, int j, int blocks) { return j * blocks + block; }

// Rows [first, first + count) of a head into shared memory, times `factor`, and zeros up to a whole
// block of four; rows for which `live(row)` does not hold are zeros too, whatever is in them.
template <class T, int DIM, class Live>
__device__ __forceinline__ void stage_rows(float* tile, int tile_steps, const T* head,
                                           const AttentionTensor& tensor, int size, int first,
                                           int count, float factor, Live live) {
  using Layout = AttentionLayout<DIM>;
  constexpr int kPieces = Layout::kRowPieces;
  const int whole = (count + 3) / 4 * 4;
  for (int i = static_cast<int>(threadIdx.x); i < whole * kPieces; i += kAttentionThreads) {
    const int step = i / kPieces, at = 4 * (i % kPieces);
    float piece[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (step < count && live(first + step)) {
      const T* row = head + static_cast<int64_t>(first + step) * tensor.step_stride;
      load_piece(row, at, size, tensor.vectors, piece);
    }
    float* to = tile + tile_row(step / 4, step % 4, tile_steps / 4) * Layout::kStride + at;
#pragma unroll
    for (int k = 0; k < 4; ++k) piece[k] *= factor;
    fk::store4(to, piece);
  }
}

// What this thread has of the product of its part with a row of a tile.
template <int DIM>
__device__ __forceinline__ float dot_part(const float* part, const float* tile_row, int lane) {
  using Layout = AttentionLayout<DIM>;
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < Layout::kPieces; ++w) {
    float piece[4];
    fk::load4(tile_row + 4 * (lane + w * Layout::kLanes), piece);
#pragma unroll
    for (int i = 0; i < 4 && 4 * w + i < Layout::kPart; ++i) sum += part[4 * w + i] * piece[i];
  }
  return sum;
}

// sums += weight * row of a tile, for the thread's part.
template <int DIM>
__device__ __forceinline__ void add_part(float* sums, float weight, const float* tile_row,
                                         int lane) {
  using Layout = AttentionLayout<DIM>;
#pragma unroll
  for (int w = 0; w < Layout::kPieces; ++w) {
    float piece[4];
    fk::load4(tile_row + 4 * (lane + w * Layout::kLanes), piece);
#pragma unroll
    for (int i = 0; i < 4 && 4 * w + i < Layout::kPart; ++i) sums[4 * w + i] += weight * piece[i];
  }
}

// The sum over the threads that share a row's dims; all of the warp take part.
template <int DIM>
__device__ __forceinline__ float sum_of_lanes(float value) {
#pragma unroll
  for (int other = 1; other < AttentionLayout<DIM>::kLanes; other *= 2) {
    value += fk::shuffle_xor(value, other);
  }
  return value;
}

// Brings together what the threads of a row summed over different blocks of the other side.
template <int DIM>
__device__ __forceinline__ void sum_of_splits(float (&sums)[AttentionLayout<DIM>::kPart],
                                              int splits) {
  constexpr int kLanes = AttentionLayout<DIM>::kLanes;
  for (int other = kLanes; other < kLanes * splits; other *= 2) {
#pragma unroll
    for (int d = 0; d < AttentionLayout<DIM>::kPart; ++d) {
      sums[d] += fk::shuffle_xor(sums[d], other);
    }
  }
}

// The bias of one head.
__device__ __forceinline__ AttentionBias attention_bias(AttentionBias bias, int batch, int head) {
  if (bias.data != nullptr) {
    bias.data += static_cast<int64_t>(batch) * bias.batch_stride +
                 static_cast<int64_t>(head) * bias.head_stride;
  }
  return bias;
}

// Finite values stay finite, as the usual finite stand-ins for -inf have to.
__device__ __forceinline__ float bias_in_base_2(const AttentionBias& bias, int row, int column) {
  const float value = bias.data[static_cast<int64_t>(row) * bias.row_stride +
                                static_cast<int64_t>(column) * bias.column_stride];
  const float scaled = value * kLog2E;
  return scaled == -INFINITY && value != -INFINITY ? kLowest : scaled;
}

// Four bits: which of the columns 4 * block .. 4 * block + 3 of a row dropout keeps.
__device__ __forceinline__ unsigned keep_bits(uint64_t seed, uint32_t threshold, int block, int row,
                                              int head, int batch) {
  const fk::PhiloxWords random =
      fk::philox(seed, static_cast<uint32_t>(block), static_cast<uint32_t>(row),
                 static_cast<uint32_t>(head), static_cast<uint32_t>(batch));
  unsigned bits = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) bits |= (random.values[i] >= threshold ? 1u : 0u) << i;
  return bits;
}

}  // namespace cuda
}  // namespace fusionkit
