// Backward pass, the role of the query rows: gradients of the query and of the scores. A thread has
// a row of the query, its upstream gradient and the gradient to be in registers.
#pragma once

#include "attention_backward_head.cuh"

namespace fusionkit {
namespace cuda {

// One row, as far as it is this thread's.
template <int DIM>
struct BackwardRow {
  static constexpr int kPart = AttentionLayout<DIM>::kPart;
  float query[kPart];  // times scale, in base 2
  float grad_out[kPart];
  float sums[kPart];
  float largest, inverse, delta;
  int row;
  float* scores;  // gradient of the row's scores, or null
};

// The keys 4 block .. 4 block + 3 of a tile whose first key is `base`; keys from `limit` on do not
// count.
template <int DIM, bool SCORES>
__device__ __forceinline__ void backward_row_block(BackwardRow<DIM>& own, const BackwardHead& at,
                                                   const float* keys, const float* values,
                                                   int tile_blocks, int block, int base, int limit,
                                                   int lane) {
  using Layout = AttentionLayout<DIM>;
  constexpr int kSteps = kBackwardSteps<DIM>;
  unsigned kept = 0xF;
  if (at.dropout.threshold != 0) {
    kept = keep_bits(at.seed, at.dropout.threshold, base / 4 + block, own.row, at.head, at.batch);
  }
#pragma unroll
  for (int first = 0; first < 4; first += kSteps) {
    float score[kSteps], grad[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int place = tile_row(block, first + i, tile_blocks) * Layout::kStride;
      score[i] = sum_of_lanes<DIM>(dot_part<DIM>(own.query, keys + place, lane));
      grad[i] = sum_of_lanes<DIM>(dot_part<DIM>(own.grad_out, values + place, lane));
    }
    if (at.dropout.threshold != 0) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        grad[i] = kept >> (first + i) & 1 ? grad[i] * at.dropout.factor : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int place = tile_row(block, first + i, tile_blocks) * Layout::kStride;
      const int column = base + 4 * block + first + i;
      if constexpr (SCORES) {
        if (at.bias.data != nullptr && column < limit && own.row < at.rows) {
          score[i] += bias_in_base_2(at.bias, own.row, column);
        }
      }
      // Rows that do not count have an inverse of 0, and what NaN makes of that is left out below.
      const float of_score =
          column < limit ? weight_of(score[i], own.largest, own.inverse) * (grad[i] - own.delta)
                         : 0.0f;
      if constexpr (SCORES) {
        if (own.scores != nullptr && lane == 0 && column < limit && own.row < at.rows) {
          own.scores[column] = of_score;
        }
      }
      add_part<DIM>(own.sums, of_score, keys + place, lane);
    }
  }
}

// SCORES: whether any pair of the list has a bias, or wants the gradient of its scores.
template <class T, int DIM, bool SCORES>
__device__ __forceinline__ void backward_queries(const AttentionBackwardList& list,
                                                 const AttentionItem& item, float* memory) {
  using Layout = AttentionLayout<DIM>;
  const AttentionBackwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  const BackwardHead at = backward_head(list, item);
  const AttentionPlace<DIM> place(list.rows_split_shift[item.pair]);
  const int block_row = item.tile * place.groups;

  BackwardRow<DIM> own;
  own.row = block_row + place.group;
  const bool valid = own.row < at.rows;
  const float sum = valid ? at.sums[own.row] : 0.0f;
  // Rows without result pass no gradient, whatever arrives there: 0 times NaN would be NaN.
  const bool live = sum != 0.0f;
  own.largest = valid ? at.largest[own.row] : 0.0f;
  own.inverse = live ? 1.0f / sum : 0.0f;
  own.scores = pair.scores == nullptr
                   ? nullptr
                   : pair.scores + ((static_cast<int64_t>(item.batch) * in.heads + item.head) *
                                        in.num_queries +
                                    own.row) *
                                       in.num_keys;
  const int64_t row = own.row;
  load_part<T, DIM>(
      attention_head<const T>(in.query, item.batch, item.head) + row * in.query.step_stride,
      in.head_dim, in.query.vectors, place.lane, valid, in.scale * kLog2E, own.query);
  load_part<T, DIM>(attention_head<const T>(pair.grad_out, item.batch, item.head) +
                        row * pair.grad_out.step_stride,
                    in.value_dim, pair.grad_out.vectors, place.lane, live, 1.0f, own.grad_out);
  // The row's output, for delta; then the same registers sum the gradient.
  load_part<T, DIM>(
      attention_head<const T>(pair.out, item.batch, item.head) + row * pair.out.step_stride,
      in.value_dim, pair.out.vectors, place.lane, live, 1.0f, own.sums);
  float delta = 0.0f;
#pragma unroll
  for (int d = 0; d < Layout::kPart; ++d) {
    delta += own.grad_out[d] * own.sums[d];
    own.sums[d] = 0.0f;
  }
  own.delta = sum_of_lanes<DIM>(delta);

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
    for (int first = 0; first < blocks; first += place.splits) {
      const int block = min(first + place.split, blocks - 1);
      const int limit = block == first + place.split ? at.keys : 0;
      backward_row_block<DIM, SCORES>(own, at, keys, values, tile_steps / 4, block, base, limit,
                                      place.lane);
    }
  }
  sum_of_splits<DIM>(own.sums, place.splits);
  if (!live) {
    // 0 times NaN may have come from the keys.
#pragma unroll
    for (int d = 0; d < Layout::kPart; ++d) own.sums[d] = 0.0f;
  }
  if (pair.query.data == nullptr || place.split != 0 || own.row >= in.num_queries) return;
  store_part<T, DIM>(
      attention_head<T>(pair.query, item.batch, item.head) + row * pair.query.step_stride,
      in.head_dim, pair.query.vectors, place.lane, in.scale, own.sums);
}

}  // namespace cuda
}  // namespace fusionkit
