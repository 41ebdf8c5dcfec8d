// What the LSTM's forward and backward share: checked inputs, and work split into tasks for
// threads.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "../kernels/cpu/dispatch.h"
#include "../kernels/cpu/lstm.h"
#include "work_queue.h"

namespace {

using fusionkit::LstmBatch;
using fusionkit::LstmRows;
using fusionkit::LstmStrand;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A part of the work that one thread does: some ranks or rows of one strand or input.
struct Task {
  double cost;  // multiplications
  int64_t index;
  int64_t begin;
  int64_t end;
};

int64_t threads_for(double cost) {
  constexpr double kCostOfAThread = 2.5e5;
  const auto most = static_cast<double>(torch::stable::get_num_threads());
  return static_cast<int64_t>(std::clamp(cost / kCostOfAThread, 1.0, std::max(1.0, most)));
}

double total_cost(const std::vector<Task>& tasks) {
  return std::accumulate(tasks.begin(), tasks.end(), 0.0,
                         [](double sum, const Task& task) { return sum + task.cost; });
}

// Runs the tasks on threads, the longest first; work(task, thread).
template <class Work>
void run(std::vector<Task> tasks, const Work& work) {
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task& a, const Task& b) { return a.cost > b.cost; });
  const auto count = static_cast<int64_t>(tasks.size());
  fusionkit::binding::run_queue(count, threads_for(total_cost(tasks)),
                                [&](int64_t i, int64_t thread) { work(tasks[i], thread); });
}

void check_tensor(const Tensor& tensor, const std::string& name, std::vector<int64_t> shape) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.is_cpu(),
                  "fusionkit::lstm: ", name, " must be float32 on the CPU");
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  std::string wanted;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    fits = fits && tensor.size(axis) == shape[axis];
    wanted += (axis ? ", " : "") + std::to_string(shape[axis]);
  }
  STD_TORCH_CHECK(fits, "fusionkit::lstm: ", name, " must be of shape (", wanted, ")");
}

std::string item(const char* list, size_t index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

// The strands of one call, and the tensors that they point into.
struct Layer {
  std::vector<Tensor> owned;
  std::vector<int64_t> order, lengths;
  std::vector<LstmStrand> strands;
  LstmBatch batch{};
  int64_t directions = 1;
  int64_t valid_steps = 0;

  const Tensor& own(const Tensor& tensor) { return owned.emplace_back(tensor); }

  float* scratch(const Tensor& like, int64_t count) {
    return own(torch::stable::new_empty(like, {count})).mutable_data_ptr<float>();
  }

  const float* contiguous(const Tensor& tensor) {
    return own(torch::stable::contiguous(tensor)).const_data_ptr<float>();
  }

  LstmRows<const float> rows(const Tensor& tensor) {
    const bool dense = tensor.size(2) <= 1 || tensor.stride(2) == 1;
    const Tensor& kept = own(dense ? tensor : torch::stable::contiguous(tensor));
    return {kept.const_data_ptr<float>(), kept.stride(0), kept.stride(1)};
  }

  int64_t steps_of(int64_t begin, int64_t end) const {
    return std::accumulate(lengths.begin() + begin, lengths.begin() + end, int64_t{0});
  }
};

void set_lengths(Layer& layer, const std::optional<Tensor>& lengths, int64_t batch, int64_t time) {
  std::vector<int64_t> given(batch, time);
  if (lengths) {
    STD_TORCH_CHECK(lengths->scalar_type() == ScalarType::Long && lengths->is_cpu(),
                    "fusionkit::lstm: lengths must be int64 on the CPU");
    STD_TORCH_CHECK(lengths->numel() == batch, "fusionkit::lstm: lengths must hold ", batch,
                    " numbers, got ", lengths->numel());
    const Tensor dense = torch::stable::contiguous(*lengths);
    std::copy_n(dense.const_data_ptr<int64_t>(), batch, given.begin());
  }
  layer.order.resize(batch);
  std::iota(layer.order.begin(), layer.order.end(), int64_t{0});
  std::stable_sort(layer.order.begin(), layer.order.end(),
                   [&](int64_t a, int64_t b) { return given[a] > given[b]; });
  for (const int64_t sample : layer.order) {
    STD_TORCH_CHECK(given[sample] >= 0 && given[sample] <= time,
                    "fusionkit::lstm: lengths must be in [0, ", time, "], got ", given[sample]);
    layer.lengths.push_back(given[sample]);
  }
  layer.batch = {batch, time, layer.order.data(), layer.lengths.data()};
  layer.valid_steps = layer.steps_of(0, batch);
}

Layer prepare(const std::vector<Tensor>& inputs, const std::optional<Tensor>& lengths,
              const std::vector<Tensor>& weights, bool bidirectional) {
  Layer layer;
  layer.directions = bidirectional ? 2 : 1;
  const size_t strands = inputs.size() * layer.directions;
  STD_TORCH_CHECK(!inputs.empty() && inputs[0].dim() == 3,
                  "fusionkit::lstm: inputs must be one or more tensors (B, T, D)");
  STD_TORCH_CHECK(weights.size() == 4 * strands, "fusionkit::lstm: weights must hold ", 4 * strands,
                  " tensors, got ", weights.size());
  set_lengths(layer, lengths, inputs[0].size(0), inputs[0].size(1));
  for (size_t s = 0; s < strands; ++s) {
    const size_t index = s / layer.directions;
    const Tensor& x = inputs[index];
    const int64_t columns = x.dim() == 3 ? x.size(2) : 0;
    check_tensor(x, item("inputs", index), {layer.batch.batch, layer.batch.time, columns});
    STD_TORCH_CHECK(weights[4 * s + 1].dim() == 2, "fusionkit::lstm: ", item("weights", 4 * s + 1),
                    " must be (4H, H)");
    const int64_t hidden = weights[4 * s + 1].size(1);
    check_tensor(weights[4 * s], item("weights", 4 * s), {4 * hidden, columns});
    check_tensor(weights[4 * s + 1], item("weights", 4 * s + 1), {4 * hidden, hidden});
    check_tensor(weights[4 * s + 2], item("weights", 4 * s + 2), {4 * hidden});
    check_tensor(weights[4 * s + 3], item("weights", 4 * s + 3), {4 * hidden});
    STD_TORCH_CHECK(s % layer.directions == 0 || layer.strands.back().hidden_size == hidden,
                    "fusionkit::lstm: the directions of ", item("inputs", index),
                    " differ in hidden size");
    LstmStrand strand{};
    strand.input_size = columns;
    strand.hidden_size = hidden;
    strand.reverse = s % layer.directions == 1;
    strand.x = layer.rows(x);
    layer.strands.push_back(strand);
  }
  return layer;
}

int64_t padded(int64_t columns) {
  return (columns + fusionkit::kLstmPadding - 1) / fusionkit::kLstmPadding *
         fusionkit::kLstmPadding;
}

// Multiplications of one step of one sample.
double cost_of_step(const LstmStrand& strand) {
  return 4.0 * strand.hidden_size * (strand.input_size + strand.hidden_size);
}

// Ranges of ranks, so many that the threads get about the same work.
std::vector<Task> split_ranks(const Layer& layer) {
  const auto strands = static_cast<int64_t>(layer.strands.size());
  double cost = 0.0;
  for (const LstmStrand& strand : layer.strands) {
    cost += cost_of_step(strand) * static_cast<double>(layer.valid_steps);
  }
  const int64_t threads = threads_for(cost), batch = layer.batch.batch;
  const int64_t parts = strands % threads == 0 ? 1 : (3 * threads + strands - 1) / strands;
  // Products of whole tiles of rows are the fastest.
  constexpr int64_t kTile = 8;
  const int64_t ranks =
      std::clamp((batch / parts + kTile - 1) / kTile * kTile, kTile, fusionkit::kLstmRanks);
  std::vector<Task> tasks;
  for (int64_t s = 0; s < strands; ++s) {
    for (int64_t begin = 0; begin < batch; begin += ranks) {
      const int64_t end = std::min(batch, begin + ranks);
      const auto steps = static_cast<double>(layer.steps_of(begin, end));
      tasks.push_back({cost_of_step(layer.strands[s]) * steps, s, begin, end});
    }
  }
  return tasks;
}

// W_ih and W_hh of every strand, packed for the kernel.
struct PackedWeights {
  std::vector<float*> ih, hh;
};

// Each (4H, N) weight as the right factor of a product, transposed for the forward: N is the depth
// there, and 4H in the backward. `wanted(strand)` tells whether W_ih is needed.
template <class Wanted>
PackedWeights pack_weights(Layer& layer, const std::vector<Tensor>& weights, bool transposed,
                           const Wanted& wanted) {
  PackedWeights packed;
  std::vector<Task> tasks;
  for (size_t s = 0; s < layer.strands.size(); ++s) {
    for (size_t k = 0; k < 2; ++k) {
      const Tensor& weight = weights[4 * s + k];
      const int64_t rows = weight.size(0), columns = weight.size(1);
      const int64_t size = transposed ? columns * padded(rows) : rows * padded(columns);
      const bool needed = k == 1 || wanted(s);
      (k == 0 ? packed.ih : packed.hh).push_back(layer.scratch(weight, needed ? size : 0));
      const auto index = static_cast<int64_t>(4 * s + k);
      if (needed) tasks.push_back({static_cast<double>(size), index, 0, 0});
    }
  }
  const auto pack = FUSIONKIT_DISPATCH(lstm_pack);
  run(tasks, [&](const Task& task, int64_t) {
    const Tensor& weight = weights[task.index];
    const int64_t depth = transposed ? 1 : 0, columns = 1 - depth;
    pack(weight.const_data_ptr<float>(), weight.stride(depth), weight.stride(columns),
         weight.size(depth), weight.size(columns),
         (task.index % 4 == 0 ? packed.ih : packed.hh)[task.index / 4]);
  });
  return packed;
}

}  // namespace
