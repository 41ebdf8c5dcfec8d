// What both roles of the backward pass know of a head.
#pragma once

#include "attention_tile.cuh"
#include "attention_work.cuh"

namespace fusionkit {
namespace cuda {

struct AttentionBackwardList {
  AttentionSpans<2 * kAttentionMaxPairs> spans;
  AttentionDropout dropout;
  int8_t rows_split_shift[kAttentionMaxPairs], keys_split_shift[kAttentionMaxPairs];
  AttentionBackwardPair pair[kAttentionMaxPairs];
};
static_assert(sizeof(AttentionBackwardList) <= 4096, "the limit of kernel arguments");

// Steps of a block that are under way at once, as registers allow.
template <int DIM>
constexpr int kBackwardSteps = DIM <= 4 ? 4 : 2;

struct BackwardHead {
  AttentionBias bias;
  uint64_t seed;
  AttentionDropout dropout;
  int batch, head;
  int rows, keys;               // valid ones; no rows where there are no keys
  const float *largest, *sums;  // (Tq,)
};

__device__ __forceinline__ BackwardHead backward_head(const AttentionBackwardList& list,
                                                      const AttentionItem& item) {
  const AttentionBackwardPair& pair = list.pair[item.pair];
  const AttentionInputs& in = pair.in;
  BackwardHead at;
  at.batch = item.batch;
  at.head = item.head;
  at.keys = attention_length(in.key_lengths, item.batch, in.num_keys);
  at.rows = at.keys == 0 ? 0 : attention_length(in.query_lengths, item.batch, in.num_queries);
  at.bias = attention_bias(in.bias, item.batch, item.head);
  at.dropout = list.dropout;
  at.seed = at.dropout.threshold == 0 ? 0 : static_cast<uint64_t>(*in.seed);
  at.largest =
      pair.row_sums + (static_cast<int64_t>(item.batch) * in.heads + item.head) * in.num_queries;
  at.sums = at.largest + static_cast<int64_t>(in.batch) * in.heads * in.num_queries;
  return at;
}

// The weight of a score, given what the forward pass saved of its row.
__device__ __forceinline__ float weight_of(float score, float largest, float inverse) {
  return fk::exp2(score - largest) * inverse;
}

}  // namespace cuda
}  // namespace fusionkit
