// What device.cuh needs of the hardware, as nvcc compiles it. The tests' emulator
// (tests/support/cuda_on_cpu) has the same names for the CPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <tuple>
#include <utility>

// The block's dynamic shared memory as `type* const name`, aligned to 16 bytes.
#define FUSIONKIT_SHARED(type, name)                          \
  extern __shared__ __align__(16) unsigned char fk_shared_[]; \
  type* const name = reinterpret_cast<type*>(fk_shared_)

namespace fk {

constexpr unsigned kFullWarp = 0xFFFFFFFF;

using half_t = __half;
using bfloat_t = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(half_t x) { return __half2float(x); }
__device__ __forceinline__ float to_float(bfloat_t x) { return __bfloat162float(x); }

// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ half_t from_float<half_t>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ bfloat_t from_float<bfloat_t>(float x) {
  return __float2bfloat16_rn(x);
}

// One instruction; at most 2 ulp off; results below 2^-126 are 0.
__device__ __forceinline__ float exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// One instruction; at most 1 ulp off; 0 for |x| above 2^126, infinity for |x| below 2^-126.
__device__ __forceinline__ float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Four floats to shared memory by one instruction, at a multiple of 16 bytes. Left alone, the
// compiler takes some such stores apart, into four that meet the same banks.
__device__ __forceinline__ void store_shared4(float* to, const float (&from)[4]) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(from[0]),
               "f"(from[1]), "f"(from[2]), "f"(from[3])
               : "memory");
}

// For the emulator, which checks it.
__device__ __forceinline__ void check_aligned(const void*, size_t) {}

// Collectives of a full warp: all 32 lanes have to call them.
template <class T>
__device__ __forceinline__ T shuffle(T value, int lane) {
  return __shfl_sync(kFullWarp, value, lane);
}
template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(kFullWarp, value, mask);
}
__device__ __forceinline__ bool any(bool value) { return __any_sync(kFullWarp, value); }

// Tensor cores: d += a b with a (16, 16), b (16, 8), d (16, 8), whose elements are with the lanes
// as the PTX manual says for mma.m16n8k16: with g = lane / 4 and c = 2 (lane % 4), two elements a
// word, the lower column of a (row of b) in the lower half,
//   a[0] (g, c), a[1] (g + 8, c), a[2] (g, c + 8), a[3] (g + 8, c + 8); b[0] (c, g), b[1] (c + 8,
//   g); d[0] (g, c), d[1] (g, c + 1), d[2] (g + 8, c), d[3] (g + 8, c + 1).
template <class T>
__device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2]);
#define FUSIONKIT_MMA_16816(type, ptx)                                                   \
  template <>                                                                            \
  __device__ __forceinline__ void mma_16816<type>(float (&d)[4], const uint32_t (&a)[4], \
                                                  const uint32_t (&b)[2]) {              \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." ptx "." ptx                    \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"  \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));    \
  }
FUSIONKIT_MMA_16816(half_t, "f16")
FUSIONKIT_MMA_16816(bfloat_t, "bf16")
#undef FUSIONKIT_MMA_16816

// Counts for grid_barrier: what a block wrote before `arrive` can be read after `arrived` saw it.
// Release and acquire include what __syncthreads has ordered before and after them.
__device__ __forceinline__ void arrive(unsigned* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
__device__ __forceinline__ unsigned arrived(const unsigned* counter) {
  unsigned count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
  return count;
}

namespace detail {

using Launch = cudaError_t (*)(const void*, dim3, dim3, void**, size_t, cudaStream_t);

template <class... Parameters, size_t... I>
int launch(Launch how, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           cudaStream_t stream, std::tuple<Parameters...> arguments, std::index_sequence<I...>) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(
        function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  void* pointers[] = {&std::get<I>(arguments)..., nullptr};
  return how(function, grid, block, pointers, shared_bytes, stream);
}

}  // namespace detail

// Starts a kernel; the result is a cudaError_t, 0 where it was started.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           cudaStream_t stream, Arguments&&... arguments) {
  return detail::launch(&cudaLaunchKernel, kernel, grid, block, shared_bytes, stream,
                        std::tuple<Parameters...>(std::forward<Arguments>(arguments)...),
                        std::index_sequence_for<Parameters...>{});
}

// The same for a kernel with a grid barrier: an error where not all of its blocks fit at once.
template <class... Parameters, class... Arguments>
int launch_cooperative(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                       cudaStream_t stream, Arguments&&... arguments) {
  return detail::launch(&cudaLaunchCooperativeKernel, kernel, grid, block, shared_bytes, stream,
                        std::tuple<Parameters...>(std::forward<Arguments>(arguments)...),
                        std::index_sequence_for<Parameters...>{});
}

}  // namespace fk
