// Threads of torch's pool that take the next piece of work as they get free.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

namespace fusionkit::binding {

// work(index, worker) for all indices below `count`, in order of their start, on `workers` threads.
template <class Work>
void run_queue(int64_t count, int64_t workers, const Work& work) {
  std::atomic<int64_t> next{0};
  const auto drain = [&](int64_t worker) {
    for (int64_t i = next++; i < count; i = next++) work(i, worker);
  };
  if (workers <= 1) return drain(0);
  torch::stable::parallel_for(0, workers, 1, [&](int64_t worker, int64_t) { drain(worker); });
}

}  // namespace fusionkit::binding
