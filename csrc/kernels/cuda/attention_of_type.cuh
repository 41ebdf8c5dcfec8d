// The operators for numbers of one type, which a file of their own instantiates.
#pragma once

#include <vector>

#include "attention.h"

namespace fusionkit {
namespace cuda {

template <class T>
int forward_of_type(const std::vector<AttentionForwardPair>& pairs, AttentionDropout dropout,
                    cudaStream_t stream);
template <class T>
int backward_of_type(const std::vector<AttentionBackwardPair>& pairs, AttentionDropout dropout,
                     cudaStream_t stream);

}  // namespace cuda
}  // namespace fusionkit
