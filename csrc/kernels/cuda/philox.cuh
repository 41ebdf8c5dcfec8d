// Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), bit for bit
// the generator of fusionkit/ops/philox.py. One call serves the four columns 4 c .. 4 c + 3.
#pragma once

#include "device.cuh"

namespace fk {

struct PhiloxWords {
  uint32_t values[4];
};

// Dropout keeps the elements whose word is at least this. `p` is in [0, 1).
inline uint32_t philox_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

// The words of columns 4 * column_block .. + 3 of a row of a head of a sample.
__host__ __device__ __forceinline__ PhiloxWords philox(uint64_t seed, uint32_t column_block,
                                                       uint32_t row, uint32_t head,
                                                       uint32_t batch) {
  uint32_t c0 = column_block, c1 = row, c2 = head, c3 = batch;
  auto low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53} * c0, second = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(second >> 32) ^ c1 ^ low;
    c1 = static_cast<uint32_t>(second);
    c2 = static_cast<uint32_t>(first >> 32) ^ c3 ^ high;
    c3 = static_cast<uint32_t>(first);
    low += 0x9E3779B9;
    high += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace fk
