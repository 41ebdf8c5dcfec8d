// The gated mask: memory is what limits it, so that every number is read and written once, by the
// widest instructions that its address allows. A thread takes one group of neighbouring elements.
#pragma once

#include "device.cuh"
#include "gated_mask.h"
#include "philox.cuh"

namespace fusionkit::cuda {

constexpr int kMaskThreads = 256;

// How the elements of a group lie in memory.
enum class Access {
  flat,   // 16 aligned bytes, over the ends of rows: all tensors are contiguous
  rows,   // 4 columns of one row, aligned
  single  // up to 4 columns of one row, one by one
};

template <class T, Access access>
constexpr int kGroup = access == Access::flat ? 16 / sizeof(T) : 4;

struct GatedMaskCall {
  GatedMaskInputs in;
  int64_t groups;
  uint32_t threshold;  // dropout keeps words that are at least this
  float share;         // 1 / gates / (1 - dropout_p): weight of a sigmoid that is kept
  GatedMaskTensor grad_out;
  void* out;
  GatedMaskGradients grads;
};

struct MaskPosition {
  int64_t sample, step, column;

  // To `count` elements later, which are at most in the next row; true where a new sample begins.
  __device__ __forceinline__ bool advance(const GatedMaskInputs& in, int count) {
    column += count;
    if (column < in.dim) return false;
    column -= in.dim;
    if (++step < in.time) return false;
    step = 0;
    ++sample;
    return true;
  }
};

// A thread's elements.
template <int N>
struct MaskGroup {
  int64_t place;       // of the first one in a contiguous tensor
  MaskPosition first;  // not set in flat access where nothing depends on it
  int count;           // how many of the N are there; 0: the thread has nothing to do
  bool any_valid;
  bool valid[N];  // whether they are before the sample's length
};

template <Access access, int N>
__device__ __forceinline__ void find_valid(const GatedMaskInputs& in, MaskGroup<N>& group) {
#pragma unroll
  for (int i = 0; i < N; ++i) group.valid[i] = i < group.count;
  group.any_valid = group.count > 0;
  if (in.lengths == nullptr || group.count == 0) return;
  MaskPosition at = group.first;
  int64_t length = in.lengths[at.sample];
  group.any_valid = false;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    group.valid[i] = i < group.count && at.step < length;
    group.any_valid |= group.valid[i];
    // Only in flat access a group goes on in the next rows, and samples.
    if (access == Access::flat && at.advance(in, 1) && i + 1 < group.count) {
      length = in.lengths[at.sample];
    }
  }
}

template <class T, Access access, int N = kGroup<T, access>>
__device__ __forceinline__ MaskGroup<N> find_group(const GatedMaskCall& call) {
  const GatedMaskInputs& in = call.in;
  const int64_t index = int64_t{blockIdx.x} * kMaskThreads + threadIdx.x;
  MaskGroup<N> group = {};
  int64_t left;  // elements from the first one to the end of the row, or of all
  if (access == Access::flat) {
    group.place = index * N;
    left = in.batch * in.time * in.dim - group.place;
    if (in.lengths != nullptr || in.dropout_p > 0.0) {
      const int64_t row = group.place / in.dim;
      group.first = {row / in.time, row % in.time, group.place % in.dim};
    }
  } else {
    const int64_t per_row = (in.dim + N - 1) / N, row = index / per_row;
    group.first = {row / in.time, row % in.time, index % per_row * N};
    group.place = row * in.dim + group.first.column;
    left = in.dim - group.first.column;
  }
  group.count = index >= call.groups ? 0 : left < N ? static_cast<int>(left) : N;
  find_valid<access>(in, group);
  return group;
}

// What each element's sum of sigmoids is multiplied with: 0 where dropout takes it.
template <int N>
__device__ __forceinline__ void find_shares(const GatedMaskCall& call, const MaskGroup<N>& group,
                                            float (&shares)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) shares[i] = call.share;
  if (call.in.dropout_p == 0.0) return;
  const auto seed = static_cast<uint64_t>(*call.in.seed);
  MaskPosition at = group.first;
  // Four columns that begin at a multiple of 4 are in one row: with dropout, access is not flat
  // unless D is such a multiple.
#pragma unroll
  for (int first = 0; first < N; first += 4) {
    const fk::PhiloxWords words =
        fk::philox(seed, static_cast<uint32_t>(at.column / 4), static_cast<uint32_t>(at.step), 0,
                   static_cast<uint32_t>(at.sample));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (words.values[i] < call.threshold) shares[first + i] = 0.0f;
    }
    at.advance(call.in, 4);
  }
}

template <class T, Access access, int N>
__device__ __forceinline__ void read(const GatedMaskTensor& tensor, const MaskGroup<N>& group,
                                     float (&to)[N]) {
  const T* from = static_cast<const T*>(tensor.data);
  from += access == Access::flat ? group.place
                                 : group.first.sample * tensor.batch_stride +
                                       group.first.step * tensor.time_stride + group.first.column;
  if (access != Access::single && group.count == N) {
    fk::load<N>(from, to);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = i < group.count ? fk::to_float(from[i]) : 0.0f;
  }
}

// Padding gets 0, whatever was computed for it.
template <class T, Access access, int N>
__device__ __forceinline__ void write(void* tensor, const MaskGroup<N>& group, float (&from)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) from[i] = group.valid[i] ? from[i] : 0.0f;
  T* to = static_cast<T*>(tensor) + group.place;
  if (access != Access::single && group.count == N) {
    fk::store<N>(to, from);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < group.count) to[i] = fk::from_float<T>(from[i]);
    }
  }
}

struct Sigmoid {
  float value;
  float slope;
};

// With e = exp(-|x|), which cannot overflow: 1 / (1 + e) or e / (1 + e), and the slope
// e / (1 + e)^2, which has no cancellation, unlike s (1 - s) near s = 1.
__device__ __forceinline__ Sigmoid sigmoid(float x) {
  const float e = expf(-fabsf(x)), larger = fk::reciprocal(1.0f + e), smaller = e * larger;
  return {x >= 0.0f ? larger : smaller, larger * smaller};
}

// Calls use(i, gate) for the N elements of each gate. The next gate is on its way meanwhile.
template <class T, Access access, int N, class Use>
__device__ __forceinline__ void for_each_gate(const GatedMaskInputs& in, const MaskGroup<N>& group,
                                              const Use& use) {
  float next[N] = {};
  if (group.any_valid) read<T, access>(in.gates[0], group, next);
  for (int i = 0; i < in.gate_count; ++i) {
    float gate[N];
#pragma unroll
    for (int j = 0; j < N; ++j) gate[j] = next[j];
    if (group.any_valid && i + 1 < in.gate_count) read<T, access>(in.gates[i + 1], group, next);
    use(i, gate);
  }
}

template <class T, Access access>
__global__ void __launch_bounds__(kMaskThreads)
    gated_mask_forward_kernel(const __grid_constant__ GatedMaskCall call) {
  constexpr int N = kGroup<T, access>;
  const auto group = find_group<T, access>(call);
  if (group.count == 0) return;
  float x[N] = {}, shares[N], sum[N] = {};
  if (group.any_valid) read<T, access>(call.in.x, group, x);
  for_each_gate<T, access>(call.in, group, [&](int, const float (&gate)[N]) {
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += sigmoid(gate[j]).value;
  });
  find_shares(call, group, shares);
#pragma unroll
  for (int j = 0; j < N; ++j) x[j] *= sum[j] * shares[j];
  write<T, access>(call.out, group, x);
}

template <class T, Access access>
__global__ void __launch_bounds__(kMaskThreads)
    gated_mask_backward_kernel(const __grid_constant__ GatedMaskCall call) {
  constexpr int N = kGroup<T, access>;
  const auto group = find_group<T, access>(call);
  if (group.count == 0) return;
  float upstream[N] = {}, x[N] = {}, shares[N], sum[N] = {};
  if (group.any_valid) {
    read<T, access>(call.grad_out, group, upstream);
    read<T, access>(call.in.x, group, x);
  }
  find_shares(call, group, shares);
#pragma unroll
  for (int j = 0; j < N; ++j) upstream[j] *= shares[j];
  for_each_gate<T, access>(call.in, group, [&](int i, const float (&gate)[N]) {
    float grad[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const Sigmoid s = sigmoid(gate[j]);
      sum[j] += s.value;
      grad[j] = upstream[j] * x[j] * s.slope;
    }
    if (call.grads.gates[i] != nullptr) write<T, access>(call.grads.gates[i], group, grad);
  });
#pragma unroll
  for (int j = 0; j < N; ++j) sum[j] *= upstream[j];
  if (call.grads.x != nullptr) write<T, access>(call.grads.x, group, sum);
}

}  // namespace fusionkit::cuda
