// Philox-4x32-10 (see philox.h) for the rows and columns of an attention tile, a counter a lane.
#pragma once

#include "philox.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// Counters after the first round; that round is nearly the same for all lanes.
template <int N>
struct PhiloxLanes {
  Words<N> c0, c1, c2, c3;
};

// One column block, rows row .. row + N - 1.
template <int N>
FUSIONKIT_INLINE PhiloxLanes<N> philox_row_lanes(const PhiloxKeys& keys, uint32_t column_block,
                                                 uint32_t row, uint32_t head, uint32_t batch) {
  const uint64_t p0 = uint64_t{kPhiloxA} * column_block, p1 = uint64_t{kPhiloxB} * head;
  const Words<N> zero{};
  Words<N> lane;
  for (int i = 0; i < N; ++i) lane[i] = static_cast<uint32_t>(i);
  return {(lane + row) ^ static_cast<uint32_t>(p1 >> 32 ^ keys.low[0]),
          zero + static_cast<uint32_t>(p1),
          zero + static_cast<uint32_t>(p0 >> 32 ^ batch ^ keys.high[0]),
          zero + static_cast<uint32_t>(p0)};
}

// Lane 4 c + r has column block `column_block` + c and row `row` + r.
template <int N>
FUSIONKIT_INLINE PhiloxLanes<N> philox_tile(const PhiloxKeys& keys, uint32_t column_block,
                                            uint32_t row, uint32_t head, uint32_t batch) {
  const uint64_t p1 = uint64_t{kPhiloxB} * head;
  PhiloxLanes<N> lanes;
  for (int i = 0; i < N; ++i) {
    const uint64_t p0 = uint64_t{kPhiloxA} * (column_block + static_cast<uint32_t>(i / 4));
    lanes.c0[i] =
        static_cast<uint32_t>(p1 >> 32 ^ keys.low[0]) ^ (row + static_cast<uint32_t>(i % 4));
    lanes.c1[i] = static_cast<uint32_t>(p1);
    lanes.c2[i] = static_cast<uint32_t>(p0 >> 32 ^ batch ^ keys.high[0]);
    lanes.c3[i] = static_cast<uint32_t>(p0);
  }
  return lanes;
}

// The same for other rows.
template <int N>
FUSIONKIT_INLINE PhiloxLanes<N> philox_at_row(PhiloxLanes<N> tile, const PhiloxKeys& keys,
                                              uint32_t row, uint32_t head) {
  const uint64_t p1 = uint64_t{kPhiloxB} * head;
  Words<N> lane;
  for (int i = 0; i < N; ++i) lane[i] = static_cast<uint32_t>(i % 4);
  tile.c0 = (lane + row) ^ static_cast<uint32_t>(p1 >> 32 ^ keys.low[0]);
  return tile;
}

template <int N>
struct PhiloxWords {
  Words<N> word[4];
};

// The other nine rounds, for even and odd lanes.
template <int N>
FUSIONKIT_INLINE PhiloxWords<N> philox_finish(const PhiloxLanes<N>& lanes, const PhiloxKeys& keys) {
  Products<N> c[2][4] = {
      {(Products<N>)lanes.c0, (Products<N>)lanes.c1, (Products<N>)lanes.c2, (Products<N>)lanes.c3}};
  for (int i = 0; i < 4; ++i) c[1][i] = c[0][i] >> 32;
#pragma GCC unroll 9
  for (int round = 1; round < kPhiloxRounds; ++round) {
    for (auto& half : c) philox_round<N>(half[0], half[1], half[2], half[3], keys, round);
  }
  PhiloxWords<N> words;
  for (int i = 0; i < 4; ++i) {
    words.word[i] = (Words<N>)((c[0][i] & 0xFFFFFFFFu) | (c[1][i] << 32));
  }
  return words;
}

// From lane 4 c + r of word w to lane 4 c + w of row r.
template <int N>
FUSIONKIT_INLINE PhiloxWords<N> words_by_row(const PhiloxWords<N>& in) {
  const Words<N>(&w)[4] = in.word;
  if constexpr (N == 4) {
    const Words<N> a = __builtin_shufflevector(w[0], w[1], 0, 4, 1, 5);
    const Words<N> b = __builtin_shufflevector(w[2], w[3], 0, 4, 1, 5);
    const Words<N> c = __builtin_shufflevector(w[0], w[1], 2, 6, 3, 7);
    const Words<N> d = __builtin_shufflevector(w[2], w[3], 2, 6, 3, 7);
    return {{__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
             __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)}};
  }
#if FUSIONKIT_LANES >= 8
  if constexpr (N == 8) {
    const __m256i a = _mm256_unpacklo_epi32((__m256i)w[0], (__m256i)w[1]);
    const __m256i b = _mm256_unpacklo_epi32((__m256i)w[2], (__m256i)w[3]);
    const __m256i c = _mm256_unpackhi_epi32((__m256i)w[0], (__m256i)w[1]);
    const __m256i d = _mm256_unpackhi_epi32((__m256i)w[2], (__m256i)w[3]);
    return {{(Words<N>)_mm256_unpacklo_epi64(a, b), (Words<N>)_mm256_unpackhi_epi64(a, b),
             (Words<N>)_mm256_unpacklo_epi64(c, d), (Words<N>)_mm256_unpackhi_epi64(c, d)}};
  }
#endif
#if FUSIONKIT_LANES >= 16
  if constexpr (N == 16) {
    const __m512i a = _mm512_unpacklo_epi32((__m512i)w[0], (__m512i)w[1]);
    const __m512i b = _mm512_unpacklo_epi32((__m512i)w[2], (__m512i)w[3]);
    const __m512i c = _mm512_unpackhi_epi32((__m512i)w[0], (__m512i)w[1]);
    const __m512i d = _mm512_unpackhi_epi32((__m512i)w[2], (__m512i)w[3]);
    return {{(Words<N>)_mm512_unpacklo_epi64(a, b), (Words<N>)_mm512_unpackhi_epi64(a, b),
             (Words<N>)_mm512_unpacklo_epi64(c, d), (Words<N>)_mm512_unpackhi_epi64(c, d)}};
  }
#endif
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
