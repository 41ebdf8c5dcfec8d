// Vectors of 4, 8 or 16 floats for kernel bodies: compiler vectors with the usual operators, and
// the few operations that those lack. Internal linkage: compiled anew for each ISA level, after one
// of the isa_*.h has set FUSIONKIT_ISA and FUSIONKIT_LANES.
#pragma once

#include "isa_headers.h"

#define FUSIONKIT_INLINE inline __attribute__((always_inline))

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// The widest vector of this level; tails of rows use narrower ones, down to 4.
constexpr int kLanes = FUSIONKIT_LANES;

constexpr float kLog2E = 1.44269504088896341f;

template <int N>
struct VectorOf {
  typedef float Floats __attribute__((vector_size(4 * N)));
  typedef int32_t Ints __attribute__((vector_size(4 * N)));
  typedef uint32_t Words __attribute__((vector_size(4 * N)));
  typedef uint64_t Products __attribute__((vector_size(4 * N)));
};

template <int N>
using Floats = typename VectorOf<N>::Floats;
template <int N>
using Ints = typename VectorOf<N>::Ints;
template <int N>
using Words = typename VectorOf<N>::Words;
template <int N>
using Products = typename VectorOf<N>::Products;

template <int N>
FUSIONKIT_INLINE Floats<N> load(const float* from) {
  Floats<N> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <int N>
FUSIONKIT_INLINE void store(float* to, Floats<N> v) {
  std::memcpy(to, &v, sizeof v);
}

template <int N>
FUSIONKIT_INLINE Floats<N> broadcast(float x) {
  return x - Floats<N>{};
}

// The first `count` of N floats, 0 beyond; memory beyond is not touched.
template <int N>
FUSIONKIT_INLINE Floats<N> load_first(const float* from, int count) {
  if (count == N) return load<N>(from);
  Floats<N> v{};
  for (int i = 0; i < count; ++i) v[i] = from[i];
  return v;
}

template <int N>
FUSIONKIT_INLINE void store_first(float* to, Floats<N> v, int count) {
  if (count == N) return store<N>(to, v);
  for (int i = 0; i < count; ++i) to[i] = v[i];
}

// The larger of both; `a` where one of them is NaN.
template <int N>
FUSIONKIT_INLINE Floats<N> maximum(Floats<N> b, Floats<N> a) {
#if FUSIONKIT_X86
  if constexpr (N == 4) return (Floats<N>)_mm_max_ps((__m128)b, (__m128)a);
#if FUSIONKIT_LANES >= 8
  if constexpr (N == 8) return (Floats<N>)_mm256_max_ps((__m256)b, (__m256)a);
#endif
#if FUSIONKIT_LANES >= 16
  if constexpr (N == 16) return (Floats<N>)_mm512_max_ps((__m512)b, (__m512)a);
#endif
#endif
  return b > a ? b : a;
}

// 2^x for x <= 127, relative error below 3e-7; 0 below 2^-126, NaN for NaN.
template <int N>
FUSIONKIT_INLINE Floats<N> exp2(Floats<N> x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0f;
  // At -127 the exponent bits below are 0, and so is the power.
  const Floats<N> clamped = maximum<N>(broadcast<N>(-127.0f), x);
  const Floats<N> rounded = clamped + kRound;
  const Floats<N> f = clamped - (rounded - kRound);
  // Minimax on [-0.5, 0.5].
  Floats<N> p = 1.535336188319500e-4f * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  const Words<N> power = ((Words<N>)rounded << 23) + 0x3F800000u;
  return p * (Floats<N>)power;
}

// Product of the low 32 bits of each 64-bit lane of `a` with `b`.
template <int N>
FUSIONKIT_INLINE Products<N> multiply_low(Products<N> a, uint32_t b) {
#if FUSIONKIT_X86
  if constexpr (N == 4) return (Products<N>)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
#if FUSIONKIT_LANES >= 8
  if constexpr (N == 8) return (Products<N>)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#endif
#if FUSIONKIT_LANES >= 16
  if constexpr (N == 16) return (Products<N>)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#endif
#endif
  return (a & 0xFFFFFFFFu) * b;
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
