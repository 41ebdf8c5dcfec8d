// What the CUDA kernels are written with. FUSIONKIT_CUDA_ON_CPU compiles them for the emulator of
// the tests instead of a device, by any C++ compiler; so kernels use CUDA's keywords, threadIdx and
// its like, __syncthreads, __syncwarp, <math.h>, and beyond that only what is here.
#pragma once

#ifdef FUSIONKIT_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#else
#include "nvidia.cuh"
#endif

#include "dtype.h"

namespace fk {

constexpr int kWarpSize = 32;

// Bytes of shared memory that a block may have on every device of compute capability 8.0 or later;
// 8.6, 8.9 and 12.0 have no more.
constexpr size_t kMostShared = 99 * 1024;

// Place of the thread in its warp.
__device__ __forceinline__ int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * threadIdx.y) % kWarpSize);
}

// The sum and the largest of the warp's values, in every lane; always added in the same order.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    value = fmaxf(value, shuffle_xor(value, mask));
  }
  return value;
}

// N numbers that lie together, read and written by one instruction where they have up to 16 bytes.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T values[N];
};

// Reads N numbers as float, N a power of 2; their address is a multiple of their size.
template <int N, class T>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
  check_aligned(from, N * sizeof(T));
  const auto pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(pack.values[i]);
}

// Writes N numbers, rounded to T, N a power of 2; their address is a multiple of their size.
template <int N, class T>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
  check_aligned(to, N * sizeof(T));
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.values[i] = from_float<T>(from[i]);
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

template <class T>
__device__ __forceinline__ void load4(const T* from, float (&to)[4]) {
  load<4>(from, to);
}
template <class T>
__device__ __forceinline__ void store4(T* to, const float (&from)[4]) {
  store<4>(to, from);
}

// Two numbers in one word, as the tensor cores take them: `low` in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high) {
  const Pack<T, 2> pack = {{from_float<T>(low), from_float<T>(high)}};
  static_assert(sizeof(pack) == sizeof(uint32_t), "of two bytes each");
  uint32_t word;
  memcpy(&word, &pack, sizeof(word));
  return word;
}

// A barrier of all blocks that share `counter`, a word of device memory that was 0 at the launch,
// in a cooperative launch. `arrivals` is how often a block has come to it then: for the n-th
// barrier, from 1, of b blocks it is n * b. All threads of the block call it. What other blocks
// wrote before the barrier must not be read by __ldg or through a const __restrict__ pointer after
// it.
__device__ __forceinline__ void grid_barrier(unsigned* counter, unsigned arrivals) {
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    arrive(counter);
    while (static_cast<int>(arrived(counter) - arrivals) < 0) __nanosleep(32);
  }
  __syncthreads();
}

// Calls use(T()) with the type of the numbers, and returns what that returns.
template <class Use>
int for_dtype(Dtype dtype, Use&& use) {
  switch (dtype) {
    case Dtype::float16:
      return use(half_t());
    case Dtype::bfloat16:
      return use(bfloat_t());
    default:
      return use(float());
  }
}

}  // namespace fk
