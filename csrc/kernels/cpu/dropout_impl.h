// The body of dropout, included once for each ISA level (isa_*.h).

#include "dropout.h"
#include "philox_lanes.h"
#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {

void dropout(const float* x, float* out, int64_t columns, double p, uint64_t seed, int64_t begin,
             int64_t end) {
  constexpr int N = kLanes;
  const PhiloxKeys keys = philox_keys(seed);
  const auto threshold = philox_threshold(p);
  const auto kept = static_cast<float>(1.0 / (1.0 - p));
  for (int64_t column = 0; column < columns; column += N) {
    const int count = static_cast<int>(std::min<int64_t>(N, columns - column));
    const PhiloxLanes<N> tile = philox_tile<N>(keys, static_cast<uint32_t>(column / 4), 0, 0, 0);
    // One run of the generator serves four rows.
    for (int64_t row = begin; row < end; row += 4) {
      const PhiloxLanes<N> lanes = philox_at_row<N>(tile, keys, static_cast<uint32_t>(row), 0);
      const PhiloxWords<N> words = words_by_row<N>(philox_finish<N>(lanes, keys));
      for (int64_t r = 0; r < 4 && row + r < end; ++r) {
        const int64_t at = (row + r) * columns + column;
        const Floats<N> value = load_first<N>(x + at, count) * kept;
        store_first<N>(out + at, words.word[r] >= threshold ? value : Floats<N>{}, count);
      }
    }
  }
}

}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
