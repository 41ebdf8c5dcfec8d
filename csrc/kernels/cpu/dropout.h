// Dropout with a mask from Philox, keyed by seed, row and column: fusionkit's operator dropout.
#pragma once

#include <cstdint>

namespace fusionkit {

// out = x / (1 - p) where the mask keeps, else 0, for the rows [begin, end) of contiguous (rows,
// columns). The same call on gradients is the backward pass.
using Dropout = void(const float* x, float* out, int64_t columns, double p, uint64_t seed,
                     int64_t begin, int64_t end);

namespace base {
Dropout dropout;
}  // namespace base

namespace avx2 {
Dropout dropout;
}  // namespace avx2

namespace avx512 {
Dropout dropout;
}  // namespace avx512

}  // namespace fusionkit
