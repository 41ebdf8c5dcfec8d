// Backward pass on tensor cores, the role of the keys: 64 of them a block, 16 a warp, over tiles of
// query rows. Scores stand transposed, a row for each key.
#pragma once

#include "attention_backward_head.cuh"
#include "attention_mma.cuh"

namespace fusionkit {
namespace cuda {

// Query rows of a tile.
constexpr int kMmaBackwardRows = 32;

// Whether keys and values are in shared memory too, because registers do not suffice.
template <int DIM>
constexpr bool kMmaStagedKeys = DIM > 64;

template <int DIM>
constexpr int kMmaRowTileWords = 2 * kMmaBackwardRows * padded_words(DIM) +
                                 2 * DIM * padded_words(kMmaBackwardRows) + 3 * kMmaBackwardRows;

template <int DIM>
constexpr int kMmaBackwardKeysWords =
    kMmaRowTileWords<DIM> + (kMmaStagedKeys<DIM> ? 2 * kMmaRows * padded_words(DIM) : 0);

// Query rows in shared memory: as they are and transposed, and what each brings to all keys.
template <int DIM>
struct MmaRowTile {
  static constexpr int kRows = kMmaBackwardRows;
  uint32_t *query, *grad_out, *query_transposed, *grad_out_transposed;
  float *largest, *inverse, *delta;

  __device__ __forceinline__ explicit MmaRowTile(uint32_t* memory) {
    query = memory;
    grad_out = query + kRows * padded_words(DIM);
    query_transposed = grad_out + kRows * padded_words(DIM);
    grad_out_transposed = query_transposed + DIM * padded_words(kRows);
    largest = reinterpret_cast<float*>(grad_out_transposed + DIM * padded_words(kRows));
    inverse = largest + kRows;
    delta = inverse + kRows;
  }
};

// Four threads a row.
template <class T, int DIM>
__device__ __forceinline__ void stage_mma_facts(const MmaRowTile<DIM>& tile,
                                                const AttentionBackwardPair& pair,
                                                const BackwardHead& at, int base, int count) {
  constexpr int kSharing = 4;
  const T* out = attention_head<const T>(pair.out, at.batch, at.head);
  const T* grad_out = attention_head<const T>(pair.grad_out, at.batch, at.head);
  const int own = static_cast<int>(threadIdx.x) % kSharing;
  for (int first = 0; first < MmaRowTile<DIM>::kRows; first += kAttentionThreads / kSharing) {
    const int step = first + static_cast<int>(threadIdx.x) / kSharing;
    const int64_t row = base + step;
    const float sum = step < count ? at.sums[row] : 0.0f;
    const bool live = sum != 0.0f;
    float delta = 0.0f;
    for (int dim = 4 * own; live && dim < pair.in.value_dim; dim += 4 * kSharing) {
      float a[4], b[4];
      load_piece(out + row * pair.out.step_stride, dim, pair.in.value_dim, pair.out.vectors, a);
      load_piece(grad_out + row * pair.grad_out.step_stride, dim, pair.in.value_dim,
                 pair.grad_out.vectors, b);
#pragma unroll
      for (int i = 0; i < 4; ++i) delta += a[i] * b[i];
    }
    delta += fk::shuffle_xor(delta, 1);
    delta += fk::shuffle_xor(delta, 2);
    if (own != 0 || step >= MmaRowTile<DIM>::kRows) continue;
    tile.largest[step] = step < count ? at.largest[row] : 0.0f;
    tile.inverse[step] = live ? 1.0f / sum : 0.0f;
    tile.delta[step] = delta;
  }
}

template <class T, int DIM>
__device__ __forceinline__ void stage_mma_rows(const MmaRowTile<DIM>& tile,
                                               const AttentionBackwardPair& pair,
                                               const BackwardHead& at, int base, int count) {
  constexpr int kRows = MmaRowTile<DIM>::kRows;
  const AttentionInputs& in = pair.in;
  const auto always = [](int) { return true; };
  // Rows without result pass no gradient, whatever arrives there: 0 times NaN would be NaN.
  const auto live = [&](int row) { return at.sums[row] != 0.0f; };
  const T* query = attention_head<const T>(in.query, at.batch, at.head);
  const T* grad_out = attention_head<const T>(pair.grad_out, at.batch, at.head);
  stage_words<T, DIM, kRows>(tile.query, query, in.query, in.head_dim, base, count, always);
  stage_transposed<T, DIM, kRows>(tile.query_transposed, query, in.query, in.head_dim, base, count,
                                  always);
  stage_words<T, DIM, kRows>(tile.grad_out, grad_out, pair.grad_out, in.value_dim, base, count,
                             live);
  stage_transposed<T, DIM, kRows>(tile.grad_out_transposed, grad_out, pair.grad_out, in.value_dim,
                                  base, count, live);
  stage_mma_facts<T, DIM>(tile, pair, at, base, count);
}

// The keys and values of a warp as left factors.
template <class T, int DIM>
struct MmaKeys {
  static constexpr bool kStaged = kMmaStagedKeys<DIM>;
  static constexpr int kFragments = kStaged ? 1 : DIM / 16;
  uint32_t key[kFragments][4], value[kFragments][4];
  const uint32_t *staged_key, *staged_value;

  // What is staged can be read after the next barrier.
  __device__ __forceinline__ MmaKeys(const AttentionBackwardPair& pair, const BackwardHead& at,
                                     int block_key, const MmaPlace& place, uint32_t* memory) {
    const AttentionInputs& in = pair.in;
    const T* key_head = attention_head<const T>(in.key, at.batch, at.head);
    const T* value_head = attention_head<const T>(in.value, at.batch, at.head);
    const auto always = [](int) { return true; };
    if constexpr (kStaged) {
      constexpr int kTile = kMmaRows * padded_words(DIM);
      const int count = at.keys - block_key;
      stage_words<T, DIM, kMmaRows>(memory, key_head, in.key, in.head_dim, block_key, count,
                                    always);
      stage_words<T, DIM, kMmaRows>(memory + kTile, value_head, in.value, in.value_dim, block_key,
                                    count, always);
      staged_key = memory + 16 * place.warp * padded_words(DIM);
      staged_value = staged_key + kTile;
    } else {
      const int column = block_key + 16 * place.warp + place.group;
      load_left<T, DIM>(key, key_head, in.key, in.head_dim, column, at.keys, place.word, always);
      load_left<T, DIM>(value, value_head, in.value, in.value_dim, column, at.keys, place.word,
                        always);
    }
  }

  template <int N>
  __device__ __forceinline__ void multiply_both(float (&scores)[N][4], const uint32_t* query,
                                                float (&grads)[N][4], const uint32_t* grad_out,
                                                const MmaPlace& place) const {
    if constexpr (kStaged) {
      multiply_staged<T, DIM / 16>(scores, staged_key, query, place);
      multiply_staged<T, DIM / 16>(grads, staged_value, grad_out, place);
    } else {
      multiply<T>(scores, key, query, padded_words(DIM), place);
      multiply<T>(grads, value, grad_out, padded_words(DIM), place);
    }
  }
};

// Of rows `row`, `row + 1` and keys `key`, `key + 8`, which weights stay: bits 0, 1 and 2, 3. Four
// threads of neighbouring keys need the random words of the same four: each makes one.
__device__ __forceinline__ unsigned mma_keep_bits_of_keys(const BackwardHead& at, int row,
                                                          int key) {
  const int own = key % 4;
  unsigned bits = keep_bits(at.seed, at.dropout.threshold, key / 4 + own / 2 * 2, row + own % 2,
                            at.head, at.batch)
                  << 4 * own;
  bits |= fk::shuffle_xor(bits, 4);
  bits |= fk::shuffle_xor(bits, 8);
  unsigned kept = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) kept |= (bits >> (4 * i + own) & 1) << i;
  return kept;
}

// Weights after dropout in place of the scores, gradients of the scores in place of `grads`.
template <int DIM, int N>
__device__ __forceinline__ void mma_weights_of_keys(float (&scores)[N][4], float (&grads)[N][4],
                                                    const BackwardHead& at,
                                                    const MmaRowTile<DIM>& tile, float scale,
                                                    int key, int base, int word) {
  const bool drops = at.dropout.threshold != 0;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const int step = 8 * j + 2 * word;
    float largest[2], inverse[2], delta[2];
    fk::load<2>(tile.largest + step, largest);
    fk::load<2>(tile.inverse + step, inverse);
    fk::load<2>(tile.delta + step, delta);
    unsigned kept = 0xF;
    if (drops) kept = mma_keep_bits_of_keys(at, base + step, key);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = base + step + i % 2, column = key + i / 2 * 8;
      const bool counts = column < at.keys && row < at.rows;
      float score = scores[j][i] * scale;
      if (counts && at.bias.data != nullptr) score += bias_in_base_2(at.bias, row, column);
      const float stays = kept >> i & 1 ? (drops ? at.dropout.factor : 1.0f) : 0.0f;
      const float weight = counts ? weight_of(score, largest[i % 2], inverse[i % 2]) : 0.0f;
      scores[j][i] = weight * stays;
      grads[j][i] = counts ? weight * (grads[j][i] * stays - delta[i % 2]) : 0.0f;
    }
  }
}

template <class T, int DIM>
__device__ __forceinline__ void mma_backward_keys(const AttentionBackwardList& list,
                                                  const AttentionItem& item, uint32_t* memory) {
  constexpr int kRows = kMmaBackwardRows;
  const AttentionBackwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  const BackwardHead at = backward_head(list, item);
  const MmaPlace place;
  const int block_key = item.tile * kMmaRows;
  const int column = block_key + 16 * place.warp + place.group;

  const MmaKeys<T, DIM> keys(pair, at, block_key, place, memory + kMmaRowTileWords<DIM>);
  float grad_key[DIM / 8][4] = {}, grad_value[DIM / 8][4] = {};
  const MmaRowTile<DIM> tile(memory);
  const int end = block_key < at.keys ? at.rows : 0;
  const bool warp_counts = block_key + 16 * place.warp < at.keys;
  for (int base = 0; base < end; base += kRows) {
    if (base > 0) __syncthreads();
    stage_mma_rows<T>(tile, pair, at, base, min(kRows, end - base));
    __syncthreads();
    if (!warp_counts) continue;
    float scores[kRows / 8][4] = {}, grads[kRows / 8][4] = {};
    keys.multiply_both(scores, tile.query, grads, tile.grad_out, place);
    mma_weights_of_keys(scores, grads, at, tile, in.scale * kLog2E, column, base, place.word);
    multiply_weights<T>(grad_value, scores, tile.grad_out_transposed, padded_words(kRows), place);
    multiply_weights<T>(grad_key, grads, tile.query_transposed, padded_words(kRows), place);
  }
  const bool counts[2] = {column < at.keys, column + 8 < at.keys};
  if (pair.key.data != nullptr) {
    const float factor[2] = {counts[0] ? in.scale : 0.0f, counts[1] ? in.scale : 0.0f};
    store_product(pair.key, attention_head<T>(pair.key, at.batch, at.head), in.head_dim, column,
                  in.num_keys, place.word, grad_key, factor);
  }
  if (pair.value.data != nullptr) {
    const float factor[2] = {counts[0] ? 1.0f : 0.0f, counts[1] ? 1.0f : 0.0f};
    store_product(pair.value, attention_head<T>(pair.value, at.batch, at.head), in.value_dim,
                  column, in.num_keys, place.word, grad_value, factor);
  }
}

}  // namespace cuda
}  // namespace fusionkit
