// Backward pass on tensor cores, the role of the query rows: 64 of them a block, 16 a warp, over
// tiles of keys.
#pragma once

#include "attention_backward_head.cuh"
#include "attention_mma.cuh"

namespace fusionkit {
namespace cuda {

// Keys of a tile.
constexpr int kMmaBackwardKeys = 32;

template <int DIM>
constexpr int kMmaBackwardQueriesWords =
    2 * kMmaBackwardKeys * padded_words(DIM) + DIM * padded_words(kMmaBackwardKeys);

// What the rows `row` and `row + 8` of a thread bring to all keys.
struct MmaRowFacts {
  float largest[2], inverse[2], delta[2];
  bool live[2];
};

// The sum over the dims of the products of two left factors, for both rows.
template <class T, int K>
__device__ __forceinline__ void dot_rows(const uint32_t (&a)[K][4], const uint32_t (&b)[K][4],
                                         float (&sums)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int side = 0; side < 4; side += 2) {
        float x[2], y[2];
        unpack2<T>(a[k][half + side], x);
        unpack2<T>(b[k][half + side], y);
        sum += x[0] * y[0] + x[1] * y[1];
      }
    }
    sum += fk::shuffle_xor(sum, 1);
    sum += fk::shuffle_xor(sum, 2);
    sums[half] = sum;
  }
}

// From scores and the gradients of the weights to the gradients of the scores, in place of the
// scores.
template <int N>
__device__ __forceinline__ void mma_grad_scores(float (&scores)[N][4], const float (&grads)[N][4],
                                                const BackwardHead& at, const MmaRowFacts& facts,
                                                float scale, int row, int base, int word,
                                                float* out, int num_keys) {
  const bool drops = at.dropout.threshold != 0;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    unsigned kept = 0xF;
    if (drops) {
      kept =
          mma_keep_bits(at.seed, at.dropout.threshold, base + 8 * j, row, at.head, at.batch, word);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int half = i / 2, here = row + 8 * half, column = base + 8 * j + 2 * word + i % 2;
      const bool counts = column < at.keys && here < at.rows;
      float score = scores[j][i] * scale;
      if (counts && at.bias.data != nullptr) score += bias_in_base_2(at.bias, here, column);
      const float stays = kept >> i & 1 ? (drops ? at.dropout.factor : 1.0f) : 0.0f;
      const float weight = weight_of(score, facts.largest[half], facts.inverse[half]);
      scores[j][i] = counts ? weight * (grads[j][i] * stays - facts.delta[half]) : 0.0f;
      if (counts && out != nullptr) {
        out[static_cast<int64_t>(here) * num_keys + column] = scores[j][i];
      }
    }
  }
}

template <class T, int DIM>
__device__ __forceinline__ void mma_backward_queries(const AttentionBackwardList& list,
                                                     const AttentionItem& item, uint32_t* memory) {
  constexpr int kKeys = kMmaBackwardKeys;
  const AttentionBackwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  const BackwardHead at = backward_head(list, item);
  const MmaPlace place;
  const int block_row = item.tile * kMmaRows;
  const int row = block_row + 16 * place.warp + place.group;
  const auto always = [](int) { return true; };
  const auto live = [&](int here) { return at.sums[here] != 0.0f; };

  MmaRowFacts facts;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int here = row + 8 * half;
    const float sum = here < at.rows ? at.sums[here] : 0.0f;
    facts.live[half] = sum != 0.0f;
    facts.largest[half] = here < at.rows ? at.largest[here] : 0.0f;
    facts.inverse[half] = sum != 0.0f ? 1.0f / sum : 0.0f;
  }
  uint32_t query[DIM / 16][4], grad_out[DIM / 16][4];
  load_left<T, DIM>(grad_out, attention_head<const T>(pair.grad_out, at.batch, at.head),
                    pair.grad_out, in.value_dim, row, at.rows, place.word, live);
  load_left<T, DIM>(query, attention_head<const T>(pair.out, at.batch, at.head), pair.out,
                    in.value_dim, row, at.rows, place.word, live);
  dot_rows<T>(grad_out, query, facts.delta);
  load_left<T, DIM>(query, attention_head<const T>(in.query, at.batch, at.head), in.query,
                    in.head_dim, row, at.rows, place.word, always);

  float sums[DIM / 8][4] = {};
  uint32_t* keys = memory;
  uint32_t* values = keys + kKeys * padded_words(DIM);
  uint32_t* transposed = values + kKeys * padded_words(DIM);
  const T* key_head = attention_head<const T>(in.key, at.batch, at.head);
  const int end = block_row < at.rows ? at.keys : 0;
  const bool warp_counts = block_row + 16 * place.warp < at.rows;
  float* scores_out = pair.scores == nullptr
                          ? nullptr
                          : pair.scores + (static_cast<int64_t>(at.batch) * in.heads + at.head) *
                                              in.num_queries * in.num_keys;
  for (int base = 0; base < end; base += kKeys) {
    const int count = min(kKeys, end - base);
    if (base > 0) __syncthreads();
    stage_words<T, DIM, kKeys>(keys, key_head, in.key, in.head_dim, base, count, always);
    stage_words<T, DIM, kKeys>(values, attention_head<const T>(in.value, at.batch, at.head),
                               in.value, in.value_dim, base, count, always);
    stage_transposed<T, DIM, kKeys>(transposed, key_head, in.key, in.head_dim, base, count, always);
    __syncthreads();
    if (!warp_counts) continue;
    float scores[kKeys / 8][4] = {}, grads[kKeys / 8][4] = {};
    multiply<T>(scores, query, keys, padded_words(DIM), place);
    multiply<T>(grads, grad_out, values, padded_words(DIM), place);
    mma_grad_scores(scores, grads, at, facts, in.scale * kLog2E, row, base, place.word, scores_out,
                    in.num_keys);
    multiply_weights<T>(sums, scores, transposed, padded_words(kKeys), place);
  }
  if (pair.query.data == nullptr) return;
  const float factor[2] = {facts.live[0] ? in.scale : 0.0f, facts.live[1] ? in.scale : 0.0f};
  store_product(pair.query, attention_head<T>(pair.query, at.batch, at.head), in.head_dim, row,
                in.num_queries, place.word, sums, factor);
}

}  // namespace cuda
}  // namespace fusionkit
