// From the arguments of torch.ops.fusionkit_cuda.cross_attention and its like to what the kernels
// take: checks, strides, and outputs in the layout of the inputs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../../kernels/cuda/attention.h"
#include "frame.h"

namespace fusionkit::cuda {

// The arguments that forward and backward share, for one pair.
struct AttentionArguments {
  Tensor query, key, value;
  std::optional<Tensor> bias, key_lengths, query_lengths;
  double scale;
  double dropout_p;
  std::optional<Tensor> seed;
};

struct AttentionUpstream {
  Tensor grad_out, out, row_sums;
};

struct AttentionResults {
  Tensor out, row_sums;
};

// One launch for all, or a few where their head dims differ much. The pairs have to agree in dtype,
// device and dropout_p.
std::vector<AttentionResults> attention_forward_all(const std::vector<AttentionArguments>& all,
                                                    const char* op);

// Bits of `needs`: gradients of query, key, value and scores; only those come back, in this order,
// those of one pair after those of another.
std::vector<Tensor> attention_backward_all(const std::vector<AttentionUpstream>& upstream,
                                           const std::vector<AttentionArguments>& all,
                                           int64_t needs, const char* op);

}  // namespace fusionkit::cuda
