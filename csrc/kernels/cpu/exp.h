// exp in float32 in a form that compilers vectorise. Internal linkage: compiled anew for each ISA.
#pragma once

#include <bit>
#include <cstdint>

namespace fusionkit {
namespace {

// exp(x) for x <= 0, relative error below 2e-7; 0 below log(2^-126), NaN for NaN.
// Range reduction x = n log 2 + r and polynomial as in Cephes' expf.
inline float exp_nonpositive(float x) {
  constexpr float kLowest = -87.3365447f;
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0f;
  const float clamped = x < kLowest ? kLowest : x;
  const float rounded = clamped * 1.44269504088896341f + kRound;
  const float n = rounded - kRound;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const float power = std::bit_cast<float>((std::bit_cast<uint32_t>(rounded) << 23) + 0x3F800000u);
  return x < kLowest ? 0.0f : p * power;
}

}  // namespace
}  // namespace fusionkit
