// out = x * mean_i sigmoid(gate_i) * dropout, rows at or beyond the lengths are 0: fusionkit's
// operator gated_mask on float32 in main memory.
#pragma once

#include <array>
#include <cstdint>

namespace fusionkit {

constexpr int kMaxGates = 8;

// A (B, T, D) tensor with D contiguous; strides in elements.
struct GatedMaskRows {
  const float* data;
  int64_t batch_stride;
  int64_t time_stride;

  const float* at(int64_t batch, int64_t time) const {
    return data + batch * batch_stride + time * time_stride;
  }
};

struct GatedMaskInputs {
  int64_t time;
  int64_t dim;
  GatedMaskRows x;
  int gate_count;
  std::array<GatedMaskRows, kMaxGates> gates;
  const int64_t* lengths;  // (B,), or null where every row counts
  double dropout_p;        // in [0, 1)
  uint64_t seed;
};

// Contiguous (B, T, D) outputs; null where a gradient is not asked for.
struct GatedMaskGradients {
  float* x;
  std::array<float*, kMaxGates> gates;
};

// Both work on the rows [begin, end) of the B * T rows, so that callers can split them on threads.
using GatedMaskForward = void(const GatedMaskInputs& in, float* out, int64_t begin, int64_t end);
using GatedMaskBackward = void(const GatedMaskInputs& in, const GatedMaskRows& grad_out,
                               const GatedMaskGradients& grads, int64_t begin, int64_t end);

namespace base {
GatedMaskForward gated_mask_forward;
GatedMaskBackward gated_mask_backward;
}  // namespace base

namespace avx2 {
GatedMaskForward gated_mask_forward;
GatedMaskBackward gated_mask_backward;
}  // namespace avx2

namespace avx512 {
GatedMaskForward gated_mask_forward;
GatedMaskBackward gated_mask_backward;
}  // namespace avx512

}  // namespace fusionkit
