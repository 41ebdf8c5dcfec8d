// The forward pass of attention for short sequences and narrow heads: a thread has query rows, or
// parts of their dims, in registers and goes over the keys with an on-line softmax (Milakov and
// Gimelshein 2018), in base 2. Where there are few rows, several threads take different keys of one
// row and merge what they have at the end.
#pragma once

#include "attention_tile.cuh"
#include "attention_work.cuh"

namespace fusionkit {
namespace cuda {

struct AttentionForwardList {
  AttentionSpans<kAttentionMaxPairs> spans;
  AttentionDropout dropout;
  int16_t split_shift[kAttentionMaxPairs];
  AttentionForwardPair pair[kAttentionMaxPairs];
};
static_assert(sizeof(AttentionForwardList) <= 4096, "the limit of kernel arguments");

// Query rows that a thread works on, so that what it reads of keys and values serves them all.
constexpr int kForwardRows = 2;

// What a thread has of its rows.
template <int DIM>
struct ForwardRows {
  static constexpr int kPart = AttentionLayout<DIM>::kPart;
  float query[kForwardRows][kPart];
  float sums[kForwardRows][kPart];
  float largest[kForwardRows];
  float total[kForwardRows];
};

// What all rows of a head share.
struct ForwardHead {
  AttentionBias bias;
  uint64_t seed;
  AttentionDropout dropout;
  int batch, head;
  int rows, keys;  // valid ones
};

__device__ __forceinline__ ForwardHead forward_head(const AttentionForwardList& list,
                                                    const AttentionItem& item) {
  const AttentionInputs& in = list.pair[item.pair].in;
  ForwardHead at;
  at.batch = item.batch;
  at.head = item.head;
  at.keys = attention_length(in.key_lengths, item.batch, in.num_keys);
  at.rows = at.keys == 0 ? 0 : attention_length(in.query_lengths, item.batch, in.num_queries);
  at.bias = attention_bias(in.bias, item.batch, item.head);
  at.dropout = list.dropout;
  at.seed = at.dropout.threshold == 0 ? 0 : static_cast<uint64_t>(*in.seed);
  return at;
}

// Scores of the rows with the keys 4 block .. 4 block + 3 of a tile, whose first key is `base`;
// keys from `limit` on do not count.
template <int DIM, bool BIAS>
__device__ __forceinline__ void forward_scores(const ForwardRows<DIM>& rows, const ForwardHead& at,
                                               const float* keys, int tile_blocks, int block,
                                               int base, int limit, int first_row,
                                               const AttentionPlace<DIM>& place,
                                               float (&scores)[kForwardRows][4]) {
  using Layout = AttentionLayout<DIM>;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float* key = keys + tile_row(block, j, tile_blocks) * Layout::kStride;
#pragma unroll
    for (int r = 0; r < kForwardRows; ++r) {
      scores[r][j] = sum_of_lanes<DIM>(dot_part<DIM>(rows.query[r], key, place.lane));
    }
  }
  const int column = base + 4 * block;
  if constexpr (BIAS) {
#pragma unroll
    for (int r = 0; r < kForwardRows; ++r) {
      const int row = first_row + r * place.groups;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (at.bias.data != nullptr && column + j < limit && row < at.rows) {
          scores[r][j] += bias_in_base_2(at.bias, row, column + j);
        }
      }
    }
  }
  // At most one block of a row ends within.
  if (column + 4 > limit) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int r = 0; r < kForwardRows; ++r) {
        if (column + j >= limit) scores[r][j] = -INFINITY;
      }
    }
  }
}

// Takes the four values of a block into the sums of a row. Scores become weights.
template <int DIM>
__device__ __forceinline__ void forward_weights(float (&scores)[4], float& largest, float& total,
                                                float (&sums)[AttentionLayout<DIM>::kPart]) {
  float now = largest;
#pragma unroll
  for (int j = 0; j < 4; ++j) now = fmaxf(now, scores[j]);
  // Where nothing but -inf was seen yet, 0 keeps the differences below free of inf - inf.
  const float shift = now == -INFINITY ? 0.0f : now;
  const float decay = fk::exp2(largest - shift);
  largest = now;
#pragma unroll
  for (int j = 0; j < 4; ++j) scores[j] = fk::exp2(scores[j] - shift);
  total = total * decay + ((scores[0] + scores[1]) + (scores[2] + scores[3]));
#pragma unroll
  for (int d = 0; d < AttentionLayout<DIM>::kPart; ++d) sums[d] *= decay;
}

template <int DIM, bool BIAS>
__device__ __forceinline__ void forward_block(ForwardRows<DIM>& rows, const ForwardHead& at,
                                              const float* keys, const float* values,
                                              int tile_blocks, int block, int base, int limit,
                                              int first_row, const AttentionPlace<DIM>& place) {
  using Layout = AttentionLayout<DIM>;
  float scores[kForwardRows][4];
  forward_scores<DIM, BIAS>(rows, at, keys, tile_blocks, block, base, limit, first_row, place,
                            scores);
#pragma unroll
  for (int r = 0; r < kForwardRows; ++r) {
    forward_weights<DIM>(scores[r], rows.largest[r], rows.total[r], rows.sums[r]);
    if (at.dropout.threshold != 0) {
      const unsigned kept = keep_bits(at.seed, at.dropout.threshold, base / 4 + block,
                                      first_row + r * place.groups, at.head, at.batch);
#pragma unroll
      for (int j = 0; j < 4; ++j) scores[r][j] = kept >> j & 1 ? scores[r][j] : 0.0f;
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float* value = values + tile_row(block, j, tile_blocks) * Layout::kStride;
#pragma unroll
    for (int w = 0; w < Layout::kPieces; ++w) {
      float piece[4];
      fk::load4(value + 4 * (place.lane + w * Layout::kLanes), piece);
#pragma unroll
      for (int r = 0; r < kForwardRows; ++r) {
#pragma unroll
        for (int i = 0; i < 4 && 4 * w + i < Layout::kPart; ++i) {
          rows.sums[r][4 * w + i] += scores[r][j] * piece[i];
        }
      }
    }
  }
}

// Brings together what the threads of a row have found in different blocks of keys.
template <int DIM>
__device__ __forceinline__ void forward_merge(ForwardRows<DIM>& rows, int splits) {
  constexpr int kLanes = AttentionLayout<DIM>::kLanes;
  for (int other = kLanes; other < kLanes * splits; other *= 2) {
#pragma unroll
    for (int r = 0; r < kForwardRows; ++r) {
      const float theirs = fk::shuffle_xor(rows.largest[r], other);
      const float now = fmaxf(rows.largest[r], theirs);
      const float shift = now == -INFINITY ? 0.0f : now;
      const float decay = fk::exp2(rows.largest[r] - shift);
      rows.largest[r] = now;
      rows.total[r] *= decay;
      rows.total[r] += fk::shuffle_xor(rows.total[r], other);
#pragma unroll
      for (int d = 0; d < AttentionLayout<DIM>::kPart; ++d) {
        rows.sums[r][d] *= decay;
        rows.sums[r][d] += fk::shuffle_xor(rows.sums[r][d], other);
      }
    }
  }
}

template <class T, int DIM>
__device__ __forceinline__ void forward_write(const ForwardRows<DIM>& rows,
                                              const AttentionForwardPair& pair,
                                              const ForwardHead& at, int first_row,
                                              const AttentionPlace<DIM>& place) {
  const AttentionInputs& in = pair.in;
  T* out = attention_head<T>(pair.out, at.batch, at.head);
  const int64_t all = static_cast<int64_t>(in.batch) * in.heads * in.num_queries;
  float* sums =
      pair.row_sums + (static_cast<int64_t>(at.batch) * in.heads + at.head) * in.num_queries;
  if (place.split != 0) return;
#pragma unroll
  for (int r = 0; r < kForwardRows; ++r) {
    const int row = first_row + r * place.groups;
    if (row >= in.num_queries) continue;
    // Only rows without a key that counts have a sum of 0; NaN is no 0 and stays.
    const bool empty = row >= at.rows || rows.total[r] == 0.0f;
    const float dropout_factor = at.dropout.threshold == 0 ? 1.0f : at.dropout.factor;
    float result[AttentionLayout<DIM>::kPart];
#pragma unroll
    for (int d = 0; d < AttentionLayout<DIM>::kPart; ++d) {
      result[d] = empty ? 0.0f : rows.sums[r][d];
    }
    store_part<T, DIM>(out + static_cast<int64_t>(row) * pair.out.step_stride, in.value_dim,
                       pair.out.vectors, place.lane, empty ? 0.0f : dropout_factor / rows.total[r],
                       result);
    if (place.lane == 0) {
      sums[row] = empty ? 0.0f : rows.largest[r];
      sums[all + row] = empty ? 0.0f : rows.total[r];
    }
  }
}

// BIAS: whether any pair of the list has one.
template <class T, int DIM, bool BIAS>
__global__ void __launch_bounds__(kAttentionThreads, DIM <= 6    ? 4
                                                     : DIM <= 12 ? 3
                                                                 : 2)
    attention_forward_kernel(const AttentionForwardList list) {
  using Layout = AttentionLayout<DIM>;
  FUSIONKIT_SHARED(float, memory);
  const AttentionItem item = attention_item(list.spans, static_cast<int>(blockIdx.x),
                                            [&](int pair) { return list.pair[pair].in.heads; });
  const AttentionForwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  const AttentionPlace<DIM> place(list.split_shift[item.pair]);
  const ForwardHead at = forward_head(list, item);
  const int block_row = item.tile * place.groups * kForwardRows;
  const int first_row = block_row + place.group;
  ForwardRows<DIM> rows;
  const T* query = attention_head<const T>(in.query, item.batch, item.head);
#pragma unroll
  for (int r = 0; r < kForwardRows; ++r) {
    const int row = first_row + r * place.groups;
    load_part<T, DIM>(query + static_cast<int64_t>(row) * in.query.step_stride, in.head_dim,
                      in.query.vectors, place.lane, row < at.rows, in.scale * kLog2E,
                      rows.query[r]);
    rows.largest[r] = -INFINITY;
    rows.total[r] = 0.0f;
#pragma unroll
    for (int d = 0; d < Layout::kPart; ++d) rows.sums[r][d] = 0.0f;
  }

  const int tile_steps = attention_tile_steps(in.num_keys, Layout::kSteps);
  float* keys = memory;
  float* values = memory + tile_steps * Layout::kStride;
  const int end = block_row < at.rows ? at.keys : 0;
  for (int base = 0; base < end; base += tile_steps) {
    const int count = min(tile_steps, end - base);
    const auto always = [](int) { return true; };
    if (base > 0) __syncthreads();
    stage_rows<T, DIM>(keys, tile_steps, attention_head<const T>(in.key, item.batch, item.head),
                       in.key, in.head_dim, base, count, 1.0f, always);
    stage_rows<T, DIM>(values, tile_steps, attention_head<const T>(in.value, item.batch, item.head),
                       in.value, in.value_dim, base, count, 1.0f, always);
    __syncthreads();
    const int blocks = (count + 3) / 4;
    // As many turns for every thread of a warp: those without a block see no key that counts.
    for (int first = 0; first < blocks; first += place.splits) {
      const int block = min(first + place.split, blocks - 1);
      const int limit = block == first + place.split ? at.keys : 0;
      forward_block<DIM, BIAS>(rows, at, keys, values, tile_steps / 4, block, base, limit,
                               first_row, place);
    }
  }
  forward_merge(rows, place.splits);
  forward_write<T>(rows, pair, at, first_row, place);
}

}  // namespace cuda
}  // namespace fusionkit
