// The body of the gated mask, included once for each ISA level (isa_*.h).
// Rows are worked through in tiles whose temporaries stay in the first-level cache; the inner loops
// are plain so that the compiler vectorises them.

#include <algorithm>
#include <cstdint>

#include "exp.h"
#include "gated_mask.h"
#include "philox.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

constexpr int64_t kTile = 256;
static_assert(kTile % 4 == 0, "a tile holds whole Philox blocks");

struct Sigmoid {
  float value;
  float slope;
};

// exp of a negative number only: nothing overflows, and the slope has no cancellation near 1.
inline Sigmoid sigmoid(float logit) {
  const float e = exp_nonpositive(-__builtin_fabsf(logit));
  const float r = 1.0f / (1.0f + e);
  return {logit >= 0.0f ? r : e * r, e * r * r};
}

void add_sigmoids(const float* __restrict logits, float* __restrict sum, int64_t n) {
  for (int64_t c = 0; c < n; ++c) sum[c] += sigmoid(logits[c]).value;
}

// grad = weight * sigmoid', and the sigmoids are added to the sum on the way.
void gate_gradient(const float* __restrict logits, const float* __restrict weight,
                   float* __restrict sum, float* __restrict grad, int64_t n) {
  for (int64_t c = 0; c < n; ++c) {
    const Sigmoid s = sigmoid(logits[c]);
    sum[c] += s.value;
    grad[c] = weight[c] * s.slope;
  }
}

// What an element's sum of sigmoids is multiplied with: the mean, and dropout's 1 / (1 - p) on top.
float kept_share(const GatedMaskInputs& in) {
  return static_cast<float>(1.0 / (in.gate_count * (1.0 - in.dropout_p)));
}

// The kept share, and 0 where dropout takes the element away.
void fill_shares(const GatedMaskInputs& in, int64_t batch, int64_t time, int64_t column, int64_t n,
                 float* __restrict share) {
  const float kept = kept_share(in);
  const auto threshold = static_cast<uint32_t>(in.dropout_p * 4294967296.0);
  for (int64_t block = 0; block < (n + 3) / 4; ++block) {
    const PhiloxBlock words = philox(in.seed, static_cast<uint32_t>(column / 4 + block),
                                     static_cast<uint32_t>(time), 0, static_cast<uint32_t>(batch));
    for (int i = 0; i < 4; ++i) share[4 * block + i] = words.word[i] >= threshold ? kept : 0.0f;
  }
}

bool is_padding(const GatedMaskInputs& in, int64_t batch, int64_t time) {
  return in.lengths != nullptr && time >= in.lengths[batch];
}

}  // namespace

void gated_mask_forward(const GatedMaskInputs& in, float* out, int64_t begin, int64_t end) {
  float sum[kTile];
  float share[kTile];
  std::fill_n(share, kTile, kept_share(in));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / in.time, time = row % in.time;
    float* out_row = out + row * in.dim;
    if (is_padding(in, batch, time)) {
      std::fill_n(out_row, in.dim, 0.0f);
      continue;
    }
    for (int64_t column = 0; column < in.dim; column += kTile) {
      const int64_t n = std::min(kTile, in.dim - column);
      std::fill_n(sum, n, 0.0f);
      for (int i = 0; i < in.gate_count; ++i) {
        add_sigmoids(in.gates[i].at(batch, time) + column, sum, n);
      }
      const float* x = in.x.at(batch, time) + column;
      float* y = out_row + column;
      if (in.dropout_p > 0.0) fill_shares(in, batch, time, column, n, share);
      for (int64_t c = 0; c < n; ++c) y[c] = x[c] * (sum[c] * share[c]);
    }
  }
}

void gated_mask_backward(const GatedMaskInputs& in, const GatedMaskRows& grad_out,
                         const GatedMaskGradients& grads, int64_t begin, int64_t end) {
  float sum[kTile];
  float share[kTile];
  std::fill_n(share, kTile, kept_share(in));
  float upstream[kTile];
  float weight[kTile];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t batch = row / in.time, time = row % in.time;
    if (is_padding(in, batch, time)) {
      if (grads.x != nullptr) std::fill_n(grads.x + row * in.dim, in.dim, 0.0f);
      for (float* gate : grads.gates) {
        if (gate != nullptr) std::fill_n(gate + row * in.dim, in.dim, 0.0f);
      }
      continue;
    }
    for (int64_t column = 0; column < in.dim; column += kTile) {
      const int64_t n = std::min(kTile, in.dim - column);
      const int64_t offset = row * in.dim + column;
      const float* x = in.x.at(batch, time) + column;
      const float* dy = grad_out.at(batch, time) + column;
      if (in.dropout_p > 0.0) fill_shares(in, batch, time, column, n, share);
      for (int64_t c = 0; c < n; ++c) upstream[c] = dy[c] * share[c];
      for (int64_t c = 0; c < n; ++c) weight[c] = upstream[c] * x[c];
      std::fill_n(sum, n, 0.0f);
      for (int i = 0; i < in.gate_count; ++i) {
        const float* logits = in.gates[i].at(batch, time) + column;
        if (grads.gates[i] != nullptr) {
          gate_gradient(logits, weight, sum, grads.gates[i] + offset, n);
        } else if (grads.x != nullptr) {
          add_sigmoids(logits, sum, n);
        }
      }
      if (grads.x != nullptr) {
        float* dx = grads.x + offset;
        for (int64_t c = 0; c < n; ++c) dx[c] = upstream[c] * sum[c];
      }
    }
  }
}

}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
