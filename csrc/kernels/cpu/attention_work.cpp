#include "attention_work.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "dispatch.h"

namespace fusionkit {
namespace {

// Costs are in units of about a 16th of a cycle: multiply-adds, and what a score costs besides.
constexpr int64_t kScoreCost = 24;
constexpr int64_t kItemCost = 4'000'000;
// A thread that gets less than this is not worth waking.
constexpr int64_t kWorkerCost = 500'000;
// Up to this many heads, the keys of one are split in the backward pass to keep all threads busy.
constexpr int64_t kFewHeads = 16;
constexpr int64_t kFewestSplitKeys = 128;

struct Item {
  size_t call;
  int64_t batch, head_begin, head_end;
  int64_t begin, end;  // rows (forward) or keys (backward)
  int64_t split;       // of the keys, which part this is
  int64_t cost;
};

int64_t multiple_of(int64_t unit, int64_t x) { return (x + unit - 1) / unit * unit; }

int64_t worker_count(std::vector<Item>& items) {
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.cost > b.cost; });
  int64_t total = 0;
  for (const Item& item : items) total += item.cost;
  return std::min<int64_t>(static_cast<int64_t>(items.size()), 1 + total / kWorkerCost);
}

std::vector<Item> forward_items(const std::vector<AttentionForwardCall>& calls) {
  std::vector<Item> items;
  for (size_t c = 0; c < calls.size(); ++c) {
    const AttentionInputs& in = calls[c].in;
    for (int64_t b = 0; b < in.batch; ++b) {
      const int64_t row_cost = in.keys(b) * (in.head_dim + in.value_dim + kScoreCost) + 1;
      const int64_t head_cost = row_cost * in.num_queries;
      if (head_cost * in.heads <= kItemCost) {
        items.push_back({c, b, 0, in.heads, 0, in.num_queries, 0, head_cost * in.heads});
        continue;
      }
      const int64_t rows =
          std::min(in.num_queries, multiple_of(64, std::max<int64_t>(1, kItemCost / row_cost)));
      for (int64_t h = 0; h < in.heads; ++h) {
        for (int64_t row = 0; row < in.num_queries; row += rows) {
          const int64_t end = std::min(in.num_queries, row + rows);
          const int64_t valid = std::clamp<int64_t>(in.rows(b) - row, 0, end - row);
          items.push_back({c, b, h, h + 1, row, end, 0, row_cost * valid});
        }
      }
    }
  }
  return items;
}

// How many parts the keys of each head are split into.
int64_t key_splits(const AttentionInputs& in) {
  const int64_t heads = std::max<int64_t>(1, in.batch * in.heads);
  if (heads >= kFewHeads) return 1;
  const int64_t wanted = (kFewHeads + heads - 1) / heads;
  return std::max<int64_t>(1, std::min(wanted, in.num_keys / kFewestSplitKeys));
}

std::vector<Item> backward_items(const std::vector<AttentionBackwardCall>& calls) {
  std::vector<Item> items;
  for (size_t c = 0; c < calls.size(); ++c) {
    const AttentionInputs& in = calls[c].in;
    const int64_t splits = key_splits(in);
    const int64_t keys = multiple_of(16, (in.num_keys + splits - 1) / splits);
    for (int64_t b = 0; b < in.batch; ++b) {
      const int64_t key_cost = in.rows(b) * (5 * (in.head_dim + in.value_dim) / 2 + kScoreCost) + 1;
      const int64_t head_cost = key_cost * in.keys(b);
      if (splits == 1 && head_cost * in.heads <= kItemCost) {
        items.push_back({c, b, 0, in.heads, 0, in.num_keys, 0, head_cost * in.heads});
        continue;
      }
      for (int64_t h = 0; h < in.heads; ++h) {
        for (int64_t s = 0; s < splits; ++s) {
          const int64_t begin = std::min(s * keys, in.num_keys);
          const int64_t end = s + 1 == splits ? in.num_keys : std::min(begin + keys, in.num_keys);
          const int64_t valid = std::clamp<int64_t>(in.keys(b) - begin, 0, end - begin);
          items.push_back({c, b, h, h + 1, begin, end, s, key_cost * valid});
        }
      }
    }
  }
  return items;
}

void copy_floats(float* to, const float* from, int64_t size) {
  constexpr int64_t kStep = 4;
  int64_t d = 0;
  for (; d + kStep <= size; d += kStep) std::memcpy(to + d, from + d, kStep * sizeof(float));
  for (; d < size; ++d) to[d] = from[d];
}

// The sum of the parts' gradients of the query, in the order of the parts.
void write_grad_query(const AttentionBackwardCall& call, int64_t batch, int64_t head,
                      const float* parts, int64_t count, int64_t part_size) {
  const AttentionInputs& in = call.in;
  const int64_t stride = attention_padded_head_dim(in.head_dim);
  float* to = call.grads.query.at(batch, head);
  for (int64_t i = 0; i < in.num_queries; ++i, to += call.grads.query.step_stride) {
    if (i >= in.rows(batch)) {
      std::fill_n(to, in.head_dim, 0.0f);
      continue;
    }
    copy_floats(to, parts + i * stride, in.head_dim);
    for (int64_t s = 1; s < count; ++s) {
      for (int64_t d = 0; d < in.head_dim; ++d) to[d] += parts[s * part_size + i * stride + d];
    }
  }
}

}  // namespace

void attention_forward_all(const std::vector<AttentionForwardCall>& calls, const RunParallel& run) {
  std::vector<Item> items = forward_items(calls);
  const int64_t workers = worker_count(items);
  const auto kernel = FUSIONKIT_DISPATCH(attention_forward);
  run(static_cast<int64_t>(items.size()), workers, [&](int64_t i) {
    const Item& item = items[static_cast<size_t>(i)];
    for (int64_t h = item.head_begin; h < item.head_end; ++h) {
      kernel(calls[item.call].in, calls[item.call].out, item.batch, h, item.begin, item.end);
    }
  });
}

void attention_backward_all(const std::vector<AttentionBackwardCall>& calls,
                            const RunParallel& run) {
  std::vector<Item> items = backward_items(calls);
  const int64_t workers = worker_count(items);
  // Where keys are split, each part has a gradient of the query of its own until all are there.
  std::vector<std::unique_ptr<float[]>> parts(calls.size());
  std::vector<int64_t> part_size(calls.size());
  for (size_t c = 0; c < calls.size(); ++c) {
    const AttentionInputs& in = calls[c].in;
    part_size[c] = in.num_queries * attention_padded_head_dim(in.head_dim);
    const int64_t splits = key_splits(in);
    if (splits > 1) parts[c].reset(new float[in.batch * in.heads * splits * part_size[c]]);
  }
  const auto kernel = FUSIONKIT_DISPATCH(attention_backward);
  run(static_cast<int64_t>(items.size()), workers, [&](int64_t i) {
    const Item& item = items[static_cast<size_t>(i)];
    const AttentionBackwardCall& call = calls[item.call];
    const AttentionInputs& in = call.in;
    const int64_t size = part_size[item.call];
    const bool split = parts[item.call] != nullptr;
    const bool biased = in.bias.data != nullptr;
    const int64_t row_facts = (2 + in.head_dim + (biased ? in.value_dim : 0)) * in.num_queries;
    const std::unique_ptr<float[]> memory(new float[row_facts + (split ? 0 : size)]);
    float* per_row = memory.get();
    const AttentionRowFacts facts{per_row, per_row + in.num_queries, per_row + 2 * in.num_queries,
                                  biased ? per_row + (2 + in.head_dim) * in.num_queries : nullptr};
    for (int64_t h = item.head_begin; h < item.head_end; ++h) {
      float* grad_query = memory.get() + row_facts;
      if (split) {
        const int64_t index = (item.batch * in.heads + h) * key_splits(in) + item.split;
        grad_query = parts[item.call].get() + index * size;
      }
      std::fill_n(grad_query, size, 0.0f);
      kernel(in, call.grads, item.batch, h, item.begin, item.end, grad_query, facts);
      if (!split && call.grads.query.data != nullptr) {
        write_grad_query(call, item.batch, h, grad_query, 1, size);
      }
    }
  });
  for (size_t c = 0; c < calls.size(); ++c) {
    if (parts[c] == nullptr || calls[c].grads.query.data == nullptr) continue;
    const AttentionInputs& in = calls[c].in;
    const int64_t splits = key_splits(in);
    run(in.batch * in.heads, workers, [&](int64_t index) {
      write_grad_query(calls[c], index / in.heads, index % in.heads,
                       parts[c].get() + index * splits * part_size[c], splits, part_size[c]);
    });
  }
}

}  // namespace fusionkit
