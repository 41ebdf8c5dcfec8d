// Which block of a launch works on what: the blocks of several pairs stand one behind the other,
// those with the longest blocks first.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention.h"
#include "device.cuh"

namespace fusionkit {
namespace cuda {

// Threads that fill a large device; rows are split until there are as many.
constexpr int64_t kAttentionFill = 1 << 16;
// Ways to split a row from which on a block has so few rows that staging what they read, and
// merging what they found, costs as much as the rest.
constexpr int kAttentionCheapSplits = 8;

enum class AttentionRole : int { kQueries, kKeys };

// The blocks of one pair in one role: for each head of each sample, some tiles.
struct AttentionSpan {
  int first_block;
  int tiles;
  int16_t pair;
  int16_t role;
};

struct AttentionItem {
  int pair;
  AttentionRole role;
  int batch, head, tile;
};

template <int N>
struct AttentionSpans {
  int count;
  AttentionSpan span[N];
};

// The item of a block; `heads_of(pair)` is the pair's number of heads.
template <int N, class Heads>
__host__ __device__ __forceinline__ AttentionItem attention_item(const AttentionSpans<N>& spans,
                                                                 int block, Heads heads_of) {
  int i = 0;
  while (i + 1 < spans.count && block >= spans.span[i + 1].first_block) ++i;
  const AttentionSpan& span = spans.span[i];
  const int place = block - span.first_block;
  const int head = place / span.tiles;
  const int heads = heads_of(span.pair);
  return {span.pair, static_cast<AttentionRole>(span.role), head / heads, head % heads,
          place % span.tiles};
}

// One entry of a list that is being made.
struct AttentionWork {
  int64_t cost;  // of one block
  int64_t heads;
  int64_t tiles;
  int pair;
  AttentionRole role;
};

// Puts `count` works into `spans`, the longest first, and returns how many blocks they are; -1 if a
// launch cannot have so many.
template <int N>
inline int64_t attention_spans(AttentionWork (&work)[N], int count, AttentionSpans<N>& spans) {
  std::stable_sort(work, work + count,
                   [](const AttentionWork& a, const AttentionWork& b) { return a.cost > b.cost; });
  int64_t blocks = 0;
  spans.count = 0;
  for (int i = 0; i < count; ++i) {
    const int64_t here = work[i].heads * work[i].tiles;
    if (here == 0) continue;
    spans.span[spans.count++] = {static_cast<int>(blocks), static_cast<int>(work[i].tiles),
                                 static_cast<int16_t>(work[i].pair),
                                 static_cast<int16_t>(work[i].role)};
    blocks += here;
    if (blocks > INT32_MAX) return -1;
  }
  return blocks;
}

// log2 of the number of ways that the other side's steps are split for each row (or key): as many
// as fill the device, at most `most`, and at least two blocks of four steps each; beyond the cheap
// ones only where most of the device would be idle. It depends on the pair alone, so that a pair
// has the same bits in any list.
inline int attention_split_shift(int64_t threads, int64_t steps, int most) {
  const auto fill = [](int ways) {
    return ways < kAttentionCheapSplits ? kAttentionFill : kAttentionFill / kAttentionCheapSplits;
  };
  int shift = 0;
  while ((2 << shift) <= most && threads << shift < fill(1 << shift) &&
         (int64_t{8} << shift) < steps) {
    ++shift;
  }
  return shift;
}

}  // namespace cuda
}  // namespace fusionkit
