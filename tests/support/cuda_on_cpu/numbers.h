// The 16-bit floating-point numbers of CUDA, rounded to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

namespace fk {

struct half_t {
  uint16_t bits;
};
struct bfloat_t {
  uint16_t bits;
};

namespace emulated {

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

}  // namespace emulated

inline float to_float(float x) { return x; }

inline float to_float(bfloat_t x) { return emulated::float_of(uint32_t{x.bits} << 16); }

inline float to_float(half_t x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
  if (rest >= 0x7C00) return emulated::float_of(sign | 0x7F800000 | (rest & 0x3FF) << 13);
  if (rest < 0x400) {  // subnormal: a multiple of 2^-24
    const float size = static_cast<float>(rest) * 0x1p-24f;
    return sign != 0 ? -size : size;
  }
  return emulated::float_of(sign | (rest + ((127 - 15) << 10)) << 13);
}

template <class T>
T from_float(float x);

template <>
inline float from_float<float>(float x) {
  return x;
}

template <>
inline bfloat_t from_float<bfloat_t>(float x) {
  const uint32_t bits = emulated::bits_of(x);
  if (x != x) return {0x7FFF};
  return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

template <>
inline half_t from_float<half_t>(float x) {
  const uint32_t bits = emulated::bits_of(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
  if (x != x) return {0x7FFF};
  if (rest >= 0x477FF000) return {static_cast<uint16_t>(sign | 0x7C00)};  // 65520: infinity
  if (rest < 0x38800000) {  // below 2^-14: adding 0.5 rounds to multiples of 2^-24
    const uint32_t sum = emulated::bits_of(emulated::float_of(rest) + 0.5f);
    return {static_cast<uint16_t>(sign | (sum - 0x3F000000))};
  }
  const uint32_t rounded = rest + 0xFFF + (rest >> 13 & 1);
  return {static_cast<uint16_t>(sign | ((rounded >> 13) - ((127 - 15) << 10)))};
}

}  // namespace fk
