// Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), bit for bit
// the generator of fusionkit/ops/philox.py, for whole rows: words come in the order of the columns.
#pragma once

#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxA = 0xD2511F53, kPhiloxB = 0xCD9E8D57;

// Dropout keeps the elements whose word is at least this.
inline uint32_t philox_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

// The keys of all rounds; in memory, where an instruction can take one for all of its lanes.
struct PhiloxKeys {
  uint64_t low[kPhiloxRounds], high[kPhiloxRounds];
};

inline PhiloxKeys philox_keys(uint64_t seed) {
  PhiloxKeys keys;
  auto low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    keys.low[round] = low;
    keys.high[round] = high;
    low += 0x9E3779B9;
    high += 0xBB67AE85;
  }
  return keys;
}

// One round on counters in lanes of 64 bits. The low half of each counts; anything may be above it,
// since products ignore that.
template <int N>
FUSIONKIT_INLINE void philox_round(Products<N>& c0, Products<N>& c1, Products<N>& c2,
                                   Products<N>& c3, const PhiloxKeys& keys, int round) {
  const Products<N> p0 = multiply_low<N>(c0, kPhiloxA);
  const Products<N> p1 = multiply_low<N>(c2, kPhiloxB);
  c0 = (p1 >> 32) ^ c1 ^ keys.low[round];
  c2 = (p0 >> 32) ^ c3 ^ keys.high[round];
  c1 = p1;
  c3 = p0;
}

// Lanes of 64 bits: lane i of the result is lane i of a for an even i and lane i - 1 of b for an
// odd one; with `odd`, lane i + 1 of a and lane i of b.
template <int N, bool odd>
FUSIONKIT_INLINE Words<N> interleave(Products<N> a, Products<N> b) {
#if FUSIONKIT_X86
  if constexpr (N == 4) {
    return (Words<N>)(odd ? _mm_unpackhi_epi64((__m128i)a, (__m128i)b)
                          : _mm_unpacklo_epi64((__m128i)a, (__m128i)b));
  }
#if FUSIONKIT_LANES >= 8
  if constexpr (N == 8) {
    return (Words<N>)(odd ? _mm256_unpackhi_epi64((__m256i)a, (__m256i)b)
                          : _mm256_unpacklo_epi64((__m256i)a, (__m256i)b));
  }
#endif
#if FUSIONKIT_LANES >= 16
  if constexpr (N == 16) {
    return (Words<N>)(odd ? _mm512_unpackhi_epi64((__m512i)a, (__m512i)b)
                          : _mm512_unpacklo_epi64((__m512i)a, (__m512i)b));
  }
#endif
#endif
  Products<N> turns;
  for (int i = 0; i < N / 2; i += 2) {
    turns[i] = a[i + odd];
    turns[i + 1] = b[i + odd];
  }
  return (Words<N>)turns;
}

// Calls use(words) for the random words of rows row .. row + rows - 1, one row after the other, of
// the blocks of four columns first_block .. first_block + blocks - 1: `words` has the next N. The
// last calls may go on beyond the rows, to a multiple of 4 N words.
template <int N, class Use>
FUSIONKIT_INLINE void philox_rows(const PhiloxKeys& keys, uint32_t batch, uint32_t row,
                                  int64_t rows, uint32_t first_block, uint32_t blocks,
                                  const Use& use) {
  constexpr int kBlocks = N / 2;  // of a vector: one in each lane of 64 bits
  // Two vectors at a time, because the rounds of one have to wait for each other. In each of them
  // the first half of the blocks is in even lanes and the second in odd ones, so that `interleave`
  // brings their words into order.
  Products<N> column[2], at_row[2];
  uint32_t c = 0, r = row;
  for (int i = 0; i < 2 * kBlocks; ++i) {
    const int place = i % kBlocks, lane = 2 * place % kBlocks + 2 * place / kBlocks;
    column[i / kBlocks][lane] = c;
    at_row[i / kBlocks][lane] = r;
    if (++c == blocks) {
      c = 0;
      ++r;
    }
  }
  const Products<N> low_half = Products<N>{} + 0xFFFFFFFFu;
  for (int64_t done = 0; done < rows * blocks; done += 2 * kBlocks) {
    Products<N> c0[2], c1[2], c2[2], c3[2];
    for (int v = 0; v < 2; ++v) {
      c0[v] = column[v] + uint64_t{first_block};
      c1[v] = at_row[v];
      c2[v] = Products<N>{};
      c3[v] = Products<N>{} + uint64_t{batch};
    }
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
      for (int v = 0; v < 2; ++v) philox_round<N>(c0[v], c1[v], c2[v], c3[v], keys, round);
    }
    for (int v = 0; v < 2; ++v) {
      const Products<N> first = (c0[v] & low_half) | (c1[v] << 32);
      const Products<N> second = (c2[v] & low_half) | (c3[v] << 32);
      use(interleave<N, false>(first, second));
      use(interleave<N, true>(first, second));
      column[v] += uint64_t{2 * kBlocks};
      for (uint32_t passed = 0; passed < 2 * kBlocks; passed += blocks) {
        const auto over = (Products<N>)(column[v] >= uint64_t{blocks});
        column[v] -= over & uint64_t{blocks};
        at_row[v] -= over;
      }
    }
  }
}

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
