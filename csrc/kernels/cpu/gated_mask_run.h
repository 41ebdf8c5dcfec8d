// The gated mask on runs of elements that lie one after the other in every tensor, whichever rows
// they belong to. Included by gated_mask_impl.h once for each ISA level.
#pragma once

#include "gated_mask.h"
#include "sigmoid.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// Pointers to the same element of all tensors. An output is null where it is not asked for.
struct MaskRun {
  const float* x;
  const float* gates[kMaxGates];
  const float* share;  // what the sum of sigmoids is multiplied with; null where it is `kept`
  float kept;
  float* out;
  const float* grad_out;
  float* grad_x;
  float* grad_gates[kMaxGates];
};

template <int N>
FUSIONKIT_INLINE Floats<N> share_at(const MaskRun& run, int64_t at) {
  return run.share != nullptr ? load<N>(run.share + at) : broadcast<N>(run.kept);
}

// For elements at .. at + N - 1 of K gates: e = exp(-gate) and s = scale * sigmoid(gate).
template <int N, int K>
FUSIONKIT_INLINE void sigmoids(const MaskRun& run, int gate, int64_t at, Floats<N> scale,
                               Floats<N> (&e)[K], Floats<N> (&s)[K]) {
  for (int i = 0; i < K; ++i) e[i] = load<N>(run.gates[gate + i] + at);
  exp_of_negative<N, K>(e);
  for (int i = 0; i < K; ++i) s[i] = scale / (1.0f + e[i]);
}

template <int N, int K>
FUSIONKIT_INLINE Floats<N> sigmoid_sum(const MaskRun& run, int gate, int64_t at, Floats<N> scale) {
  Floats<N> e[K], s[K];
  sigmoids<N, K>(run, gate, at, scale, e, s);
  return K == 1 ? s[0] : s[0] + s[K - 1];
}

// Also stores the gradients of the K gates, and gives the gradient that comes in, with dropout.
template <int N, int K>
FUSIONKIT_INLINE Floats<N> sigmoid_sum_and_gradients(const MaskRun& run, int gate, int64_t at,
                                                     Floats<N>& upstream) {
  Floats<N> e[K], s[K], grad[K];
  sigmoids<N, K>(run, gate, at, broadcast<N>(1.0f), e, s);
  // Not before the sigmoids, which need all the registers of AVX2.
  upstream = load<N>(run.grad_out + at) * share_at<N>(run, at);
  const Floats<N> weight = upstream * load<N>(run.x + at);
  // Where e is infinite, s is 0, and so must be their product.
  for (auto& v : e) v = minimum<N>(broadcast<N>(std::numeric_limits<float>::max()), v);
  // The slope e s s has no cancellation, unlike s (1 - s) near s = 1.
  for (int i = 0; i < K; ++i) grad[i] = weight * (e[i] * s[i] * s[i]);
  for (int i = 0; i < K; ++i) {
    if (run.grad_gates[gate + i] != nullptr) store<N>(run.grad_gates[gate + i] + at, grad[i]);
  }
  return K == 1 ? s[0] : s[0] + s[K - 1];
}

template <int N>
FUSIONKIT_INLINE void forward_at(const MaskRun& run, int gates, int64_t at) {
  const Floats<N> share = share_at<N>(run, at);
  Floats<N> mask = broadcast<N>(-0.0f);  // what, unlike 0, need not be added
  int i = 0;
  for (; i + 1 < gates; i += 2) mask += sigmoid_sum<N, 2>(run, i, at, share);
  if (i < gates) mask += sigmoid_sum<N, 1>(run, i, at, share);
  store<N>(run.out + at, load<N>(run.x + at) * mask);
}

template <int N>
FUSIONKIT_INLINE void backward_at(const MaskRun& run, int gates, int64_t at) {
  Floats<N> sum = broadcast<N>(-0.0f), upstream{};
  int i = 0;
  for (; i + 1 < gates; i += 2) sum += sigmoid_sum_and_gradients<N, 2>(run, i, at, upstream);
  if (i < gates) sum += sigmoid_sum_and_gradients<N, 1>(run, i, at, upstream);
  if (run.grad_x != nullptr) store<N>(run.grad_x + at, upstream * sum);
}

// n >= N elements. The last vector ends with the run and repeats elements of the one before.
template <int N, bool is_backward>
void whole_vectors(const MaskRun& run, int gates, int64_t n) {
  const MaskRun local = run;  // stores through its pointers cannot change it
  const auto pass = [&](int count) __attribute__((always_inline)) {
    for (int64_t c = 0; c < n; c += N) {
      const int64_t at = c + N <= n ? c : n - N;
      if constexpr (is_backward) {
        backward_at<N>(local, count, at);
      } else {
        forward_at<N>(local, count, at);
      }
    }
  };
  if (gates == 2) {
    pass(2);  // a constant, so that the loop over gates is unrolled for the usual case
  } else {
    pass(gates);
  }
}

// n < N elements, padded to a vector on the way.
template <int N, bool is_backward>
void part_of_vector(MaskRun run, int gates, int64_t n) {
  float inputs[kMaxGates + 3][N] = {}, outputs[kMaxGates + 1][N];
  int used = 0;
  const auto padded = [&](const float* from) {
    float* to = inputs[used++];
    for (int64_t c = 0; c < n; ++c) to[c] = from[c];
    return to;
  };
  const MaskRun wanted = run;
  run.x = padded(run.x);
  for (int i = 0; i < gates; ++i) run.gates[i] = padded(run.gates[i]);
  if (run.share != nullptr) run.share = padded(run.share);
  if (is_backward) run.grad_out = padded(run.grad_out);
  for (int i = 0; i < gates; ++i) {
    if (run.grad_gates[i] != nullptr) run.grad_gates[i] = outputs[i];
  }
  if (run.grad_x != nullptr) run.grad_x = outputs[kMaxGates];
  if (run.out != nullptr) run.out = outputs[kMaxGates];
  whole_vectors<N, is_backward>(run, gates, N);
  const auto copy = [&](float* to, const float* from) {
    for (int64_t c = 0; to != nullptr && c < n; ++c) to[c] = from[c];
  };
  for (int i = 0; i < gates; ++i) copy(wanted.grad_gates[i], outputs[i]);
  copy(is_backward ? wanted.grad_x : wanted.out, outputs[kMaxGates]);
}

template <bool is_backward>
void work_on(const MaskRun& run, int gates, int64_t n) {
  if (n >= kLanes) {
    whole_vectors<kLanes, is_backward>(run, gates, n);
  } else {
    part_of_vector<kLanes, is_backward>(run, gates, n);
  }
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
