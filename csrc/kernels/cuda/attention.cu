#include "attention.h"
#include "attention_of_type.cuh"
#include "device.cuh"

namespace fusionkit {
namespace cuda {

int attention_forward(fk::Dtype dtype, const std::vector<AttentionForwardPair>& pairs,
                      AttentionDropout dropout, cudaStream_t stream) {
  return fk::for_dtype(dtype, [&](auto number) {
    return forward_of_type<decltype(number)>(pairs, dropout, stream);
  });
}

int attention_backward(fk::Dtype dtype, const std::vector<AttentionBackwardPair>& pairs,
                       AttentionDropout dropout, cudaStream_t stream) {
  return fk::for_dtype(dtype, [&](auto number) {
    return backward_of_type<decltype(number)>(pairs, dropout, stream);
  });
}

}  // namespace cuda
}  // namespace fusionkit
