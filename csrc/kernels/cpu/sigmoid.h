// What sigmoids and their slopes are made of, for the vectors of simd.h:
// s(x) = 1 / (1 + e) and s'(x) = s(x) (e s(x)), with e = exp(-x).
#pragma once

#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// The smaller of both; `a` where one of them is NaN.
template <int N>
FUSIONKIT_INLINE Floats<N> minimum(Floats<N> b, Floats<N> a) {
#if FUSIONKIT_X86
  if constexpr (N == 4) return (Floats<N>)_mm_min_ps((__m128)b, (__m128)a);
#if FUSIONKIT_LANES >= 8
  if constexpr (N == 8) return (Floats<N>)_mm256_min_ps((__m256)b, (__m256)a);
#endif
#if FUSIONKIT_LANES >= 16
  if constexpr (N == 16) return (Floats<N>)_mm512_min_ps((__m512)b, (__m512)a);
#endif
#endif
  return b < a ? b : a;
}

// exp(-x) of K vectors in place, relative error below 2e-7: infinite for large -x and 0 for large
// x, NaN for NaN. Step by step for all of them, because the steps of one have to wait for each
// other.
template <int N, int K>
FUSIONKIT_INLINE void exp_of_negative(Floats<N> (&x)[K]) {
  // At these ends the exponent bits of the power of two below are all 0 and all 1: zero and
  // infinity.
  constexpr float kLargest = 88.0296919f, kSmallest = -88.7228391f;
  for (auto& v : x) {
    v = minimum<N>(broadcast<N>(kLargest), maximum<N>(broadcast<N>(kSmallest), v));
  }
  Floats<N> rounded[K], power[K], p[K];
#if FUSIONKIT_LANES >= 16
  if constexpr (N == 16) {
    // -x = k log 2 - r with k in steps of 1/32. 2^(k mod 1) comes from two registers, less what the
    // shift of k into the exponent leaves below it.
    const __m512 lower = _mm512_setr_ps(1.000000000f, 1.021897197f, 1.044273734f, 1.067140460f,
                                        1.090507746f, 1.114386797f, 1.138788581f, 1.163724899f,
                                        1.189207077f, 1.215247393f, 1.241857767f, 1.269050956f,
                                        1.296839595f, 1.325236678f, 1.354255557f, 1.383909941f);
    const __m512 upper = _mm512_setr_ps(1.414213538f, 1.445180774f, 1.476826191f, 1.509164453f,
                                        1.542210817f, 1.575980902f, 1.610490322f, 1.645755529f,
                                        1.681792855f, 1.718619347f, 1.756252170f, 1.794709086f,
                                        1.834008098f, 1.874167681f, 1.915206552f, 1.957144141f);
    constexpr Words<N> place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const auto low = (__m512i)((Words<N>)lower - (place << 18));
    const auto high = (__m512i)((Words<N>)upper - ((place + 16u) << 18));
    // Adding 1.5 * 2^18 rounds to 1/32 and leaves 32 k in the low bits.
    constexpr float kRound = 393216.0f;
    for (int i = 0; i < K; ++i) rounded[i] = kRound - x[i] * 1.44269504f;
    for (int i = 0; i < K; ++i) {
      const auto fraction = (Words<N>)_mm512_permutex2var_epi32(low, (__m512i)rounded[i], high);
      power[i] = (Floats<N>)(fraction + ((Words<N>)rounded[i] << 18));
    }
    for (auto& k : rounded) k -= kRound;
    for (int i = 0; i < K; ++i) x[i] = rounded[i] * 0.693147181f + x[i];
    for (int i = 0; i < K; ++i) x[i] = rounded[i] * -1.90465421e-9f + x[i];
    // exp(-r), minimax on [-log 2 / 64, log 2 / 64].
    for (int i = 0; i < K; ++i) p[i] = 5.000040531e-1f - 1.666668057e-1f * x[i];
    for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] - 1.0f;
    for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] + 1.0f;
    for (int i = 0; i < K; ++i) x[i] = p[i] * power[i];
    return;
  }
#endif
  // -x = n log 2 - r, in two steps as in Cephes' expf.
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0f;
  for (int i = 0; i < K; ++i) rounded[i] = kRound - x[i] * 1.44269504f;
  for (int i = 0; i < K; ++i) {
    const Floats<N> n = rounded[i] - kRound;
    x[i] = (x[i] + n * 0.693359375f) - n * 2.12194440e-4f;
    power[i] = (Floats<N>)(((Words<N>)rounded[i] << 23) + 0x3F800000u);
  }
  // exp(-r), minimax on [-log 2 / 2, log 2 / 2].
  for (int i = 0; i < K; ++i) p[i] = 1.381454058e-3f * x[i] - 8.368745446e-3f;
  for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] + 4.166838899e-2f;
  for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] - 1.666652113e-1f;
  for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] + 4.999999404e-1f;
  for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] - 1.0f;
  for (int i = 0; i < K; ++i) p[i] = p[i] * x[i] + 1.0f;
  for (int i = 0; i < K; ++i) x[i] = p[i] * power[i];
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
