// The backward pass of attention for short sequences and narrow heads, one launch with two roles of
// blocks: some have query rows in registers and go over the keys (attention_backward_queries.cuh),
// the others have keys and go over the rows (attention_backward_keys.cuh). The weights are made
// anew from what the forward pass saved of each row (Dao et al. 2022, "FlashAttention", algorithm
// 4). No two threads add to the same number, so that results are the same bits each time.
#pragma once

#include "attention_backward_keys.cuh"
#include "attention_backward_queries.cuh"

namespace fusionkit {
namespace cuda {

template <class T, int DIM, bool SCORES>
__global__ void __launch_bounds__(kAttentionThreads, DIM <= 8 ? 4 : 2)
    attention_backward_kernel(const AttentionBackwardList list) {
  FUSIONKIT_SHARED(float, memory);
  const AttentionItem item = attention_item(list.spans, static_cast<int>(blockIdx.x),
                                            [&](int pair) { return list.pair[pair].in.heads; });
  if (item.role == AttentionRole::kQueries) {
    backward_queries<T, DIM, SCORES>(list, item, memory);
  } else {
    backward_keys<T, DIM, SCORES>(list, item, memory);
  }
}

}  // namespace cuda
}  // namespace fusionkit
