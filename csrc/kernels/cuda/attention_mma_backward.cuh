// The backward pass on tensor cores, for half precision and head dims from 17 on: one launch with
// the two roles of attention_backward.cuh. Weights and gradients of scores are rounded to the
// inputs' dtype before they are factors.
#pragma once

#include "attention_mma_backward_keys.cuh"
#include "attention_mma_backward_queries.cuh"

namespace fusionkit {
namespace cuda {

template <int DIM>
constexpr int kMmaBackwardWords =
    kMmaBackwardKeysWords<DIM> > kMmaBackwardQueriesWords<DIM> ? kMmaBackwardKeysWords<DIM>
                                                               : kMmaBackwardQueriesWords<DIM>;

template <class T, int DIM>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    attention_mma_backward_kernel(const AttentionBackwardList list) {
  FUSIONKIT_SHARED(uint32_t, memory);
  const AttentionItem item = attention_item(list.spans, static_cast<int>(blockIdx.x),
                                            [&](int pair) { return list.pair[pair].in.heads; });
  if (item.role == AttentionRole::kQueries) {
    mma_backward_queries<T, DIM>(list, item, memory);
  } else {
    mma_backward_keys<T, DIM>(list, item, memory);
  }
}

}  // namespace cuda
}  // namespace fusionkit
