// Attention over whole batches, for one or more calls at once: cut into items that depend on the
// problem alone, so that results are the same bits on any number of threads, longest items first.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "attention.h"

namespace fusionkit {

struct AttentionForwardCall {
  AttentionInputs in;
  AttentionOutputs out;
};

struct AttentionBackwardCall {
  AttentionInputs in;
  AttentionGradients grads;
};

// Runs work(0) .. work(count - 1), in any order, on at most `workers` threads.
using RunParallel =
    std::function<void(int64_t count, int64_t workers, const std::function<void(int64_t)>& work)>;

void attention_forward_all(const std::vector<AttentionForwardCall>& calls, const RunParallel& run);
void attention_backward_all(const std::vector<AttentionBackwardCall>& calls,
                            const RunParallel& run);

}  // namespace fusionkit
