// The forward pass on tensor cores, for half precision and head dims from 17 on: 64 query rows a
// block, 16 a warp, with their fragments in registers, over tiles of keys (Dao 2023,
// "FlashAttention-2"). Weights are rounded to the inputs' dtype before they meet the values.
#pragma once

#include "attention_forward.cuh"
#include "attention_mma.cuh"

namespace fusionkit {
namespace cuda {

// Keys of a tile.
template <int DIM>
constexpr int kMmaForwardKeys = DIM <= 64 ? 64 : 32;

template <int DIM>
constexpr int kMmaForwardWords =
    kMmaForwardKeys<DIM> * padded_words(DIM) + DIM * padded_words(kMmaForwardKeys<DIM>);

// Scale, bias and what does not count. Rows are `row` and `row + 8`.
template <int N>
__device__ __forceinline__ void mma_scores(float (&scores)[N][4], const ForwardHead& at,
                                           float scale, int row, int base, int word) {
#pragma unroll
  for (int j = 0; j < N; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = base + 8 * j + 2 * word + i % 2, here = row + i / 2 * 8;
      scores[j][i] *= scale;
      const bool counts = column < at.keys;
      if (at.bias.data != nullptr && counts && here < at.rows) {
        scores[j][i] += bias_in_base_2(at.bias, here, column);
      }
      if (!counts) scores[j][i] = -INFINITY;
    }
  }
}

// Weights of one of the two rows in place of its scores; the row's sums decay.
template <int N, int M>
__device__ __forceinline__ void mma_weights(float (&scores)[N][4], float (&sums)[M][4], int half,
                                            float& largest, float& total) {
  float now = largest;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    now = fmaxf(now, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
  }
  now = fmaxf(now, fk::shuffle_xor(now, 1));
  now = fmaxf(now, fk::shuffle_xor(now, 2));
  const float shift = now == -INFINITY ? 0.0f : now;
  const float decay = fk::exp2(largest - shift);
  largest = now;
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    float& first = scores[j][2 * half];
    float& second = scores[j][2 * half + 1];
    first = fk::exp2(first - shift);
    second = fk::exp2(second - shift);
    sum += first + second;
  }
  total = total * decay + sum;
#pragma unroll
  for (int j = 0; j < M; ++j) {
    sums[j][2 * half] *= decay;
    sums[j][2 * half + 1] *= decay;
  }
}

template <class T, int DIM>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    attention_mma_forward_kernel(const AttentionForwardList list) {
  constexpr int kKeys = kMmaForwardKeys<DIM>;
  FUSIONKIT_SHARED(uint32_t, memory);
  const AttentionItem item = attention_item(list.spans, static_cast<int>(blockIdx.x),
                                            [&](int pair) { return list.pair[pair].in.heads; });
  const AttentionForwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  const ForwardHead at = forward_head(list, item);
  const MmaPlace place;
  const int block_row = item.tile * kMmaRows;
  const int row = block_row + 16 * place.warp + place.group;
  const auto always = [](int) { return true; };

  uint32_t query[DIM / 16][4];
  load_left<T, DIM>(query, attention_head<const T>(in.query, at.batch, at.head), in.query,
                    in.head_dim, row, at.rows, place.word, always);
  float sums[DIM / 8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};
  uint32_t* keys = memory;
  uint32_t* values = memory + kKeys * padded_words(DIM);
  const int end = block_row < at.rows ? at.keys : 0;
  const bool warp_counts = block_row + 16 * place.warp < at.rows;
  for (int base = 0; base < end; base += kKeys) {
    const int count = min(kKeys, end - base);
    if (base > 0) __syncthreads();
    stage_words<T, DIM, kKeys>(keys, attention_head<const T>(in.key, at.batch, at.head), in.key,
                               in.head_dim, base, count, always);
    stage_transposed<T, DIM, kKeys>(values, attention_head<const T>(in.value, at.batch, at.head),
                                    in.value, in.value_dim, base, count, always);
    __syncthreads();
    if (!warp_counts) continue;
    float scores[kKeys / 8][4] = {};
    multiply<T>(scores, query, keys, padded_words(DIM), place);
    mma_scores(scores, at, in.scale * kLog2E, row, base, place.word);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      mma_weights(scores, sums, half, largest[half], total[half]);
    }
    if (at.dropout.threshold != 0) {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
        const unsigned kept = mma_keep_bits(at.seed, at.dropout.threshold, base + 8 * j, row,
                                            at.head, at.batch, place.word);
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[j][i] = kept >> i & 1 ? scores[j][i] : 0.0f;
      }
    }
    multiply_weights<T>(sums, scores, values, padded_words(kKeys), place);
  }

  float factor[2];
  float* row_sums =
      pair.row_sums + (static_cast<int64_t>(at.batch) * in.heads + at.head) * in.num_queries;
  const int64_t all = static_cast<int64_t>(in.batch) * in.heads * in.num_queries;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] += fk::shuffle_xor(total[half], 1);
    total[half] += fk::shuffle_xor(total[half], 2);
    const int here = row + 8 * half;
    const bool empty = here >= at.rows || total[half] == 0.0f;
    const float kept = at.dropout.threshold == 0 ? 1.0f : at.dropout.factor;
    factor[half] = empty ? 0.0f : kept / total[half];
    if (place.word != 0 || here >= in.num_queries) continue;
    row_sums[here] = empty ? 0.0f : largest[half];
    row_sums[all + here] = empty ? 0.0f : total[half];
  }
  store_product(pair.out, attention_head<T>(pair.out, at.batch, at.head), in.value_dim, row,
                in.num_queries, place.word, sums, factor);
}

}  // namespace cuda
}  // namespace fusionkit
