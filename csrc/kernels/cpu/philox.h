// Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), bit for bit
// the generator of fusionkit/ops/philox.py. Internal linkage: compiled anew for each ISA level.
#pragma once

#include <cstdint>

namespace fusionkit {
namespace {

struct PhiloxBlock {
  uint32_t word[4];
};

// The four words of columns 4 * column_block .. 4 * column_block + 3.
inline PhiloxBlock philox(uint64_t seed, uint32_t column_block, uint32_t row, uint32_t head,
                          uint32_t batch) {
  uint32_t c0 = column_block, c1 = row, c2 = head, c3 = batch;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace
}  // namespace fusionkit
