// Prints the items of all blocks of a launch, one a line: pair, role, batch, head, tile. Arguments
// are the works of the list, five numbers each: pair, role, cost of a block, heads, tiles; then how
// many heads each pair has. tests/ops/test_cross_attention_pairs_cuda.py knows what is right.
#include "../../../csrc/kernels/cuda/attention_work.cuh"

#include <cstdio>
#include <cstdlib>

using namespace fusionkit::cuda;

int main(int count, char** arguments) {
  const auto argument = [&](int i) { return std::atoll(arguments[i]); };
  const int works = static_cast<int>(argument(1));
  AttentionWork work[2 * kAttentionMaxPairs];
  for (int i = 0; i < works; ++i) {
    const int at = 2 + 5 * i;
    work[i] = {argument(at + 2), argument(at + 3), argument(at + 4), static_cast<int>(argument(at)),
               static_cast<AttentionRole>(argument(at + 1))};
  }
  const int heads = 2 + 5 * works;
  if (heads > count) return 1;
  AttentionSpans<2 * kAttentionMaxPairs> spans = {};
  const int64_t blocks = attention_spans(work, works, spans);
  if (blocks < 0) std::printf("too many\n");
  for (int block = 0; block < blocks; ++block) {
    const AttentionItem item = attention_item(
        spans, block, [&](int pair) { return static_cast<int>(argument(heads + pair)); });
    std::printf("%d %d %d %d %d\n", item.pair, static_cast<int>(item.role), item.batch, item.head,
                item.tile);
  }
  return 0;
}
