#include "attention_launch.cuh"

namespace fusionkit {
namespace cuda {

template int forward_of_type<float>(const std::vector<AttentionForwardPair>&, AttentionDropout,
                                    cudaStream_t);
template int backward_of_type<float>(const std::vector<AttentionBackwardPair>&, AttentionDropout,
                                     cudaStream_t);

}  // namespace cuda
}  // namespace fusionkit
