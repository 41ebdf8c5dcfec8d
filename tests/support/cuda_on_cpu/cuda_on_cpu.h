// CUDA as far as csrc/kernels/cuda uses it, for any C++ compiler: what nvidia.cuh has, run by
// scheduler.h. Compile the .cu files with `-x c++ -DFUSIONKIT_CUDA_ON_CPU` and this folder as an
// include directory (tests/support/cuda_emulated.py does). It is for tests of results: it says
// nothing about speed, and nothing about races between blocks or in global memory.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "numbers.h"
#include "scheduler.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local  // see poison_static_shared
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define FUSIONKIT_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(fk::emulated::machine.shared())

typedef struct CUstream_st* cudaStream_t;

using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9;
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument"
                                                : "invalid argument";
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

using std::max;
using std::min;

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

inline void __syncthreads() { fk::emulated::machine.wait(fk::emulated::State::in_block); }
inline void __nanosleep(unsigned) { fk::emulated::machine.wait(fk::emulated::State::spinning); }
inline void __syncwarp() { fk::emulated::machine.wait_for_warp("__syncwarp", nullptr, nullptr); }

namespace fk {

// As on a device, numbers below the smallest normal one become 0.
inline float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
inline float exp2(float x) { return flushed(exp2f(flushed(x))); }
inline float reciprocal(float x) { return flushed(1.0f / flushed(x)); }

// Vector instructions need addresses that are multiples of their size.
inline void check_aligned(const void* pointer, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes == 0) return;
  emulated::fail("an access of " + std::to_string(bytes) + " bytes is not aligned");
}
inline void store_shared4(float* to, const float (&from)[4]) {
  check_aligned(to, sizeof(from));
  memcpy(to, from, sizeof(from));
}

namespace emulated {

// A value that a lane gives, and the lane that it wants the value of.
template <class T>
struct Exchange {
  T value;
  int source;
};

template <class T>
T exchange(const char* name, T value, int source) {
  Exchange<T> mine = {value, source};
  machine.wait_for_warp(name, &mine, [](void* const(&lanes)[kWarp]) {
    T given[kWarp];
    for (int i = 0; i < kWarp; ++i) given[i] = static_cast<Exchange<T>*>(lanes[i])->value;
    for (void* lane : lanes) {
      auto* exchange = static_cast<Exchange<T>*>(lane);
      exchange->value = given[exchange->source % kWarp];
    }
  });
  return mine.value;
}

inline int lane() { return static_cast<int>((threadIdx.x + blockDim.x * threadIdx.y) % kWarp); }

}  // namespace emulated

template <class T>
T shuffle(T value, int lane) {
  return emulated::exchange("shuffle", value, lane);
}
template <class T>
T shuffle_xor(T value, int mask) {
  return emulated::exchange("shuffle_xor", value, emulated::lane() ^ mask);
}
inline bool any(bool value) {
  emulated::machine.wait_for_warp("any", &value, [](void* const(&lanes)[emulated::kWarp]) {
    bool found = false;
    for (const void* lane : lanes) found |= *static_cast<const bool*>(lane);
    for (void* lane : lanes) *static_cast<bool*>(lane) = found;
  });
  return value;
}

namespace emulated {

struct Fragments {
  float* d;
  const uint32_t *a, *b;
};

// Element 0 or 1 of a word.
template <class T>
float element(uint32_t word, int which) {
  T values[2];
  std::memcpy(values, &word, sizeof(word));
  return to_float(values[which]);
}

template <class T>
void multiply(void* const (&lanes)[kWarp]) {
  const auto of = [&](int lane) { return *static_cast<Fragments*>(lanes[lane]); };
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double sum = 0.0;
      for (int k = 0; k < 16; ++k) {
        const int pair = k % 8 / 2;
        const uint32_t a = of(row % 8 * 4 + pair).a[row / 8 + 2 * (k / 8)];
        const uint32_t b = of(column * 4 + pair).b[k / 8];
        sum += double{element<T>(a, k % 2)} * element<T>(b, k % 2);
      }
      float& d = of(row % 8 * 4 + column / 2).d[row / 8 * 2 + column % 2];
      d = static_cast<float>(d + sum);
    }
  }
}

}  // namespace emulated

template <class T>
void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::Fragments mine = {d, a, b};
  emulated::machine.wait_for_warp("mma_16816", &mine, &emulated::multiply<T>);
}

inline void arrive(unsigned* counter) { ++*counter; }
inline unsigned arrived(const unsigned* counter) {
  return *static_cast<const volatile unsigned*>(counter);
}

namespace emulated {

template <class... Parameters>
int launch(bool together, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           const std::tuple<Parameters...>& arguments) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.y > 65535 || grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (shared_bytes > 227 * 1024) return cudaErrorInvalidValue;
  machine.run(grid, block, shared_bytes, together, [&] { std::apply(kernel, arguments); });
  return cudaSuccess;
}

}  // namespace emulated

template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
           Arguments&&... arguments) {
  return emulated::launch(false, kernel, grid, block, shared_bytes,
                          std::tuple<Parameters...>(std::forward<Arguments>(arguments)...));
}
template <class... Parameters, class... Arguments>
int launch_cooperative(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                       cudaStream_t, Arguments&&... arguments) {
  return emulated::launch(true, kernel, grid, block, shared_bytes,
                          std::tuple<Parameters...>(std::forward<Arguments>(arguments)...));
}

}  // namespace fk
