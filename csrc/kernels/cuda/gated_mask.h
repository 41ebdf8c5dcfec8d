// out = x * mean_i sigmoid(gate_i) * dropout, steps at or beyond the lengths are 0: fusionkit's
// operator gated_mask on a CUDA device, one launch each way.
#pragma once

#include <cstdint>

#include "dtype.h"
#include "runtime.h"

namespace fusionkit::cuda {

constexpr int kMaxGates = 8;

// A (B, T, D) tensor with D contiguous; strides in elements.
struct GatedMaskTensor {
  const void* data;
  int64_t batch_stride;
  int64_t time_stride;
};

struct GatedMaskInputs {
  fk::Dtype dtype;  // of all tensors; the computation is in float32
  int64_t batch;
  int64_t time;
  int64_t dim;
  GatedMaskTensor x;
  int gate_count;  // 1 to kMaxGates
  GatedMaskTensor gates[kMaxGates];
  const int64_t* lengths;  // (B,) on the device, or null where every step counts
  double dropout_p;        // in [0, 1)
  const int64_t* seed;     // one number on the device; not read where dropout_p is 0
};

// Contiguous (B, T, D) outputs of the inputs' dtype; null where a gradient is not asked for.
struct GatedMaskGradients {
  void* x;
  void* gates[kMaxGates];
};

// B * T * D must be at least 1. The result is a cudaError_t.
int gated_mask_forward(const GatedMaskInputs& in, void* out, cudaStream_t stream);
int gated_mask_backward(const GatedMaskInputs& in, const GatedMaskTensor& grad_out,
                        const GatedMaskGradients& grads, cudaStream_t stream);

}  // namespace fusionkit::cuda
