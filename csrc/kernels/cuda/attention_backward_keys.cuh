// Backward pass, the role of the keys: gradients of keys and values. A thread has a key, its value
// and both gradients to be in registers; query rows and their upstream gradients are in shared
// memory.
#pragma once

#include "attention_backward_head.cuh"

namespace fusionkit {
namespace cuda {

template <int DIM>
struct BackwardKey {
  static constexpr int kPart = AttentionLayout<DIM>::kPart;
  float key[kPart], value[kPart];
  float grad_key[kPart], grad_value[kPart];
  int column;
};

// Rows in shared memory, and what each brings to all keys.
struct BackwardRowTile {
  float* query;     // times scale, in base 2
  float* grad_out;  // zeros for rows without result
  float* facts;     // four numbers a row: largest, 1 / sum (0 for rows without result), delta, 0
  int blocks;       // of four rows that it has room for
};

// For four rows and this thread's key, four bits: whether dropout keeps the weight. Four threads of
// neighbouring keys make the random words of one row each, which serve all of them.
template <int DIM>
__device__ __forceinline__ unsigned keep_bits_of_rows(const BackwardHead& at, int first_row,
                                                      int column, int splits) {
  const int apart = AttentionLayout<DIM>::kLanes * splits;  // threads between two keys
  const int own = column % 4;
  unsigned bits =
      keep_bits(at.seed, at.dropout.threshold, column / 4, first_row + own, at.head, at.batch)
      << 4 * own;
  bits |= fk::shuffle_xor(bits, apart);
  bits |= fk::shuffle_xor(bits, 2 * apart);
  unsigned kept = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) kept |= (bits >> (4 * i + own) & 1) << i;
  return kept;
}

// The rows 4 block .. 4 block + 3 of a tile whose first row is `base`; rows from `limit` on do not
// count.
template <int DIM, bool SCORES>
__device__ __forceinline__ void backward_key_block(BackwardKey<DIM>& own, const BackwardHead& at,
                                                   const BackwardRowTile& tile, int block, int base,
                                                   int limit, const AttentionPlace<DIM>& place) {
  using Layout = AttentionLayout<DIM>;
  constexpr int kSteps = kBackwardSteps<DIM>;
  unsigned kept = 0xF;
  if (at.dropout.threshold != 0) {
    kept = keep_bits_of_rows<DIM>(at, base + 4 * block, own.column, place.splits);
  }
#pragma unroll
  for (int first = 0; first < 4; first += kSteps) {
    float weight[kSteps], grad[kSteps], delta[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int in_tile = tile_row(block, first + i, tile.blocks);
      const float* query = tile.query + in_tile * Layout::kStride;
      const float* grad_out = tile.grad_out + in_tile * Layout::kStride;
      const int row = base + 4 * block + first + i;
      float facts[4];
      fk::load4(tile.facts + 4 * in_tile, facts);
      float score = sum_of_lanes<DIM>(dot_part<DIM>(own.key, query, place.lane));
      grad[i] = sum_of_lanes<DIM>(dot_part<DIM>(own.value, grad_out, place.lane));
      if constexpr (SCORES) {
        if (at.bias.data != nullptr && own.column < at.keys && row < limit) {
          score += bias_in_base_2(at.bias, row, own.column);
        }
      }
      // What keys that do not count sum up is left out below.
      weight[i] = row < limit ? weight_of(score, facts[0], facts[1]) : 0.0f;
      delta[i] = facts[2];
    }
    float dropped[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) dropped[i] = weight[i];
    if (at.dropout.threshold != 0) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const float stays = kept >> (first + i) & 1 ? at.dropout.factor : 0.0f;
        dropped[i] = weight[i] * stays;
        grad[i] *= stays;
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int in_tile = tile_row(block, first + i, tile.blocks);
      add_part<DIM>(own.grad_value, dropped[i], tile.grad_out + in_tile * Layout::kStride,
                    place.lane);
      add_part<DIM>(own.grad_key, weight[i] * (grad[i] - delta[i]),
                    tile.query + in_tile * Layout::kStride, place.lane);
    }
  }
}

// Fills facts; `grad_out` of the tile is there. Sums delta as backward_row_block sums its products,
// so that the difference to a row's only key is exactly 0.
template <class T, int DIM>
__device__ __forceinline__ void stage_facts(const BackwardRowTile& tile,
                                            const AttentionBackwardPair& pair,
                                            const BackwardHead& at, int base, int count) {
  using Layout = AttentionLayout<DIM>;
  constexpr int kRows = kAttentionThreads / Layout::kLanes;
  const int lane = static_cast<int>(threadIdx.x) % Layout::kLanes;
  const T* out = attention_head<const T>(pair.out, at.batch, at.head);
  for (int first = 0; first < count; first += kRows) {
    const int step = first + static_cast<int>(threadIdx.x) / Layout::kLanes;
    const int row = base + step;
    const bool staged = step < (count + 3) / 4 * 4;
    const float sum = step < count ? at.sums[row] : 0.0f;
    const bool live = sum != 0.0f;
    const int in_tile = staged ? tile_row(step / 4, step % 4, tile.blocks) : 0;
    float part[Layout::kPart];
    load_part<T, DIM>(out + static_cast<int64_t>(row) * pair.out.step_stride, pair.in.value_dim,
                      pair.out.vectors, lane, live, 1.0f, part);
    const float delta =
        sum_of_lanes<DIM>(dot_part<DIM>(part, tile.grad_out + in_tile * Layout::kStride, lane));
    if (!staged || lane != 0) continue;
    const float facts[4] = {step < count ? at.largest[row] : 0.0f, live ? 1.0f / sum : 0.0f,
                            live ? delta : 0.0f, 0.0f};
    fk::store4(tile.facts + 4 * in_tile, facts);
  }
}

template <class T, int DIM>
__device__ __forceinline__ void write_gradient(const AttentionTensor& tensor,
                                               const BackwardHead& at, int step, int size,
                                               const float (&sums)[AttentionLayout<DIM>::kPart],
                                               float factor, int lane) {
  if (tensor.data == nullptr) return;
  T* head = attention_head<T>(tensor, at.batch, at.head);
  store_part<T, DIM>(head + static_cast<int64_t>(step) * tensor.step_stride, size, tensor.vectors,
                     lane, factor, sums);
}

// SCORES: whether any pair of the list has a bias, or wants the gradient of its scores.
template <class T, int DIM, bool SCORES>
__device__ __forceinline__ void backward_keys(const AttentionBackwardList& list,
                                              const AttentionItem& item, float* memory) {
  using Layout = AttentionLayout<DIM>;
  const AttentionBackwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  const BackwardHead at = backward_head(list, item);
  const AttentionPlace<DIM> place(list.keys_split_shift[item.pair]);
  const int block_key = item.tile * place.groups;

  BackwardKey<DIM> own;
  own.column = block_key + place.group;
  const bool valid = own.column < at.keys;
  const int64_t column = own.column;
  load_part<T, DIM>(
      attention_head<const T>(in.key, item.batch, item.head) + column * in.key.step_stride,
      in.head_dim, in.key.vectors, place.lane, valid, 1.0f, own.key);
  load_part<T, DIM>(
      attention_head<const T>(in.value, item.batch, item.head) + column * in.value.step_stride,
      in.value_dim, in.value.vectors, place.lane, valid, 1.0f, own.value);
#pragma unroll
  for (int d = 0; d < Layout::kPart; ++d) own.grad_key[d] = own.grad_value[d] = 0.0f;

  BackwardRowTile tile;
  const int tile_steps = attention_tile_steps(in.num_queries, Layout::kSteps);
  tile.blocks = tile_steps / 4;
  tile.query = memory;
  tile.grad_out = tile.query + tile_steps * Layout::kStride;
  tile.facts = tile.grad_out + tile_steps * Layout::kStride;
  const int end = block_key < at.keys ? at.rows : 0;
  for (int base = 0; base < end; base += tile_steps) {
    const int count = min(tile_steps, end - base);
    if (base > 0) __syncthreads();
    stage_rows<T, DIM>(tile.query, tile_steps,
                       attention_head<const T>(in.query, item.batch, item.head), in.query,
                       in.head_dim, base, count, in.scale * kLog2E, [](int) { return true; });
    stage_rows<T, DIM>(tile.grad_out, tile_steps,
                       attention_head<const T>(pair.grad_out, item.batch, item.head), pair.grad_out,
                       in.value_dim, base, count, 1.0f,
                       [&](int row) { return at.sums[row] != 0.0f; });
    __syncthreads();
    stage_facts<T, DIM>(tile, pair, at, base, count);
    __syncthreads();
    const int blocks = (count + 3) / 4;
    for (int first = 0; first < blocks; first += place.splits) {
      const int block = min(first + place.split, blocks - 1);
      const int limit = block == first + place.split ? at.rows : 0;
      backward_key_block<DIM, SCORES>(own, at, tile, block, base, limit, place);
    }
  }
  sum_of_splits<DIM>(own.grad_key, place.splits);
  sum_of_splits<DIM>(own.grad_value, place.splits);
  if (!valid) {
    // 0 times NaN may have come from the rows.
#pragma unroll
    for (int d = 0; d < Layout::kPart; ++d) own.grad_key[d] = own.grad_value[d] = 0.0f;
  }
  if (place.split != 0 || own.column >= in.num_keys) return;
  // The staged query has the scale in base 2.
  write_gradient<T, DIM>(pair.key, at, own.column, in.head_dim, own.grad_key, kLn2, place.lane);
  write_gradient<T, DIM>(pair.value, at, own.column, in.value_dim, own.grad_value, 1.0f,
                         place.lane);
}

}  // namespace cuda
}  // namespace fusionkit
