// torch.ops.fusionkit.lstm and its backward: outputs and threads around the kernel.
#include <torch/csrc/stable/library.h>

#include "lstm_layer.h"

namespace {

using fusionkit::LstmStrandGradients;

// Outputs, one for each input; states (2, B, H), one for each strand; and, with `save`, the steps
// (B, T, 5H) of each strand, which the backward needs.
std::vector<Tensor> forward(const std::vector<Tensor>& inputs, const std::optional<Tensor>& lengths,
                            const std::vector<Tensor>& weights, bool bidirectional, bool save) {
  Layer layer = prepare(inputs, lengths, weights, bidirectional);
  const int64_t batch = layer.batch.batch, time = layer.batch.time, directions = layer.directions;
  const PackedWeights packed = pack_weights(layer, weights, true, [](size_t) { return true; });
  std::vector<Tensor> outputs, states, steps;
  for (size_t s = 0; s < layer.strands.size(); ++s) {
    LstmStrand& strand = layer.strands[s];
    const Tensor& x = inputs[s / directions];
    const int64_t direction = static_cast<int64_t>(s) % directions;
    const int64_t hidden = strand.hidden_size, columns = hidden * directions;
    if (direction == 0) {
      outputs.push_back(torch::stable::new_empty(x, {batch, time, columns}));
    }
    states.push_back(torch::stable::new_empty(x, {2, batch, hidden}));
    steps.push_back(torch::stable::new_empty(x, {batch, time, 5 * hidden}));
    strand.output = {outputs.back().mutable_data_ptr<float>() + direction * hidden, time * columns,
                     columns};
    strand.steps = {steps.back().mutable_data_ptr<float>(), time * 5 * hidden, 5 * hidden};
    strand.state = states.back().mutable_data_ptr<float>();
    strand.packed_ih = packed.ih[s];
    strand.packed_hh = packed.hh[s];
    float* bias = layer.scratch(x, 4 * hidden);
    const float* b_ih = layer.contiguous(weights[4 * s + 2]);
    const float* b_hh = layer.contiguous(weights[4 * s + 3]);
    for (int64_t n = 0; n < 4 * hidden; ++n) bias[n] = b_ih[n] + b_hh[n];
    strand.bias = bias;
  }
  const auto kernel = FUSIONKIT_DISPATCH(lstm_forward);
  run(split_ranks(layer), [&](const Task& task, int64_t) {
    kernel(layer.batch, layer.strands[task.index], task.begin, task.end);
  });
  outputs.insert(outputs.end(), states.begin(), states.end());
  if (save) outputs.insert(outputs.end(), steps.begin(), steps.end());
  return outputs;
}

// Points a strand to what the forward saved, and its gradients to the upstream ones and to scratch.
LstmStrandGradients upstream(Layer& layer, size_t s, const Tensor& grad_output,
                             const std::vector<Tensor>& grad_states, const Tensor& output,
                             const Tensor& steps) {
  const int64_t batch = layer.batch.batch, time = layer.batch.time, directions = layer.directions;
  LstmStrand& strand = layer.strands[s];
  const int64_t hidden = strand.hidden_size, columns = hidden * directions;
  const int64_t first = static_cast<int64_t>(s) % directions * hidden;
  check_tensor(grad_output, item("grad_outputs", s / directions), {batch, time, columns});
  check_tensor(output, item("outputs", s / directions), {batch, time, columns});
  check_tensor(steps, item("steps", s), {batch, time, 5 * hidden});
  // The backward only reads these two.
  const LstmRows<const float> h = layer.rows(output), saved = layer.rows(steps);
  strand.output = {const_cast<float*>(h.data) + first, h.batch_stride, h.time_stride};
  strand.steps = {const_cast<float*>(saved.data), saved.batch_stride, saved.time_stride};
  LstmStrandGradients grads{};
  grads.output = layer.rows(grad_output);
  grads.output.data += first;
  if (!grad_states.empty()) {
    check_tensor(grad_states[s], item("grad_states", s), {2, batch, hidden});
    grads.state = layer.contiguous(grad_states[s]);
  }
  const int64_t width = padded(4 * hidden);
  grads.gates = {layer.scratch(steps, batch * time * width), time * width, width};
  grads.carried = layer.scratch(steps, 2 * batch * hidden);
  return grads;
}

// Ranges of ranks for the gradients of the inputs that are needed; `index` is that of the input.
void add_input_tasks(const Layer& layer, int64_t needs_inputs, std::vector<Task>& tasks) {
  constexpr int64_t kSteps = 256;
  const int64_t batch = layer.batch.batch, directions = layer.directions;
  const int64_t ranks = std::max<int64_t>(1, kSteps / std::max<int64_t>(1, layer.batch.time));
  for (int64_t i = 0; i * directions < static_cast<int64_t>(layer.strands.size()); ++i) {
    if (!(needs_inputs >> i & 1)) continue;
    const LstmStrand& strand = layer.strands[i * directions];
    for (int64_t begin = 0; begin < batch; begin += ranks) {
      const int64_t end = std::min(batch, begin + ranks);
      const auto steps = static_cast<double>(layer.steps_of(begin, end) * directions);
      tasks.push_back({4.0 * strand.hidden_size * strand.input_size * steps, i, begin, end});
    }
  }
}

// Ranges of rows of the weights, few enough for all threads; `index` is `first` + strand.
void add_weight_tasks(const Layer& layer, int64_t first, std::vector<Task>& tasks) {
  constexpr int64_t kUnit = fusionkit::kLstmRowUnit;
  int64_t all_rows = 0;
  for (const LstmStrand& strand : layer.strands) all_rows += 4 * strand.hidden_size;
  const int64_t share = all_rows / (4 * static_cast<int64_t>(torch::stable::get_num_threads()));
  const int64_t rows = std::clamp(share / kUnit * kUnit, kUnit, fusionkit::kLstmMostRows);
  for (const LstmStrand& strand : layer.strands) {
    const auto steps = static_cast<double>(layer.valid_steps);
    for (int64_t begin = 0; begin < 4 * strand.hidden_size; begin += rows) {
      const int64_t end = std::min(4 * strand.hidden_size, begin + rows);
      const auto columns = static_cast<double>(strand.input_size + strand.hidden_size);
      tasks.push_back({static_cast<double>(end - begin) * columns * steps, first, begin, end});
    }
    ++first;
  }
}

// The gradients of the inputs whose bit in `needs_inputs` is set, in order, and then, with
// `needs_weights`, of all weights. `grad_states` may be empty: no gradient.
std::vector<Tensor> backward(const std::vector<Tensor>& grad_outputs,
                             const std::vector<Tensor>& grad_states,
                             const std::vector<Tensor>& inputs,
                             const std::optional<Tensor>& lengths,
                             const std::vector<Tensor>& weights, const std::vector<Tensor>& outputs,
                             const std::vector<Tensor>& steps, bool bidirectional,
                             int64_t needs_inputs, bool needs_weights) {
  Layer layer = prepare(inputs, lengths, weights, bidirectional);
  const int64_t directions = layer.directions;
  const size_t strands = layer.strands.size();
  STD_TORCH_CHECK(grad_outputs.size() == inputs.size() && outputs.size() == inputs.size() &&
                      steps.size() == strands &&
                      (grad_states.empty() || grad_states.size() == strands),
                  "fusionkit::lstm_backward: one gradient and output an input, one tensor of steps "
                  "and none or one gradient of states a strand");
  STD_TORCH_CHECK(inputs.size() < 63, "fusionkit::lstm_backward: at most 62 inputs, got ",
                  inputs.size());
  const auto needs = [&](size_t input) { return (needs_inputs >> input & 1) != 0; };
  const PackedWeights packed =
      pack_weights(layer, weights, false, [&](size_t s) { return needs(s / directions); });
  std::vector<Tensor> results, for_weights;
  std::vector<LstmStrandGradients> grads;
  for (size_t s = 0; s < strands; ++s) {
    const size_t i = s / directions;
    LstmStrandGradients& own =
        grads.emplace_back(upstream(layer, s, grad_outputs[i], grad_states, outputs[i], steps[s]));
    own.packed_ih = packed.ih[s];
    own.packed_hh = packed.hh[s];
    if (!needs_weights) continue;
    for (float** to : {&own.w_ih, &own.w_hh, &own.b_ih, &own.b_hh}) {
      const Tensor& weight = weights[for_weights.size()];
      for_weights.push_back(torch::stable::new_empty(weight, weight.sizes()));
      *to = for_weights.back().mutable_data_ptr<float>();
    }
  }
  const auto kernel = FUSIONKIT_DISPATCH(lstm_backward);
  run(split_ranks(layer), [&](const Task& task, int64_t) {
    kernel(layer.batch, layer.strands[task.index], grads[task.index], task.begin, task.end);
  });

  std::vector<LstmRows<float>> grad_inputs(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!needs(i)) continue;
    const Tensor& grad =
        results.emplace_back(torch::stable::new_empty(inputs[i], inputs[i].sizes()));
    grad_inputs[i] = {grad.mutable_data_ptr<float>(), grad.stride(0), grad.stride(1)};
  }
  const auto count = static_cast<int64_t>(inputs.size());
  std::vector<Task> tasks;
  add_input_tasks(layer, needs_inputs, tasks);
  if (needs_weights) add_weight_tasks(layer, count, tasks);
  float* scratch =
      layer.scratch(inputs[0], fusionkit::kLstmScratch * threads_for(total_cost(tasks)));
  const auto input_gradient = FUSIONKIT_DISPATCH(lstm_input_gradient);
  const auto weight_gradient = FUSIONKIT_DISPATCH(lstm_weight_gradient);
  run(tasks, [&](const Task& task, int64_t thread) {
    if (task.index < count) {
      const int64_t first = task.index * directions;
      input_gradient(layer.batch, static_cast<int>(directions), &layer.strands[first],
                     &grads[first], grad_inputs[task.index], task.begin, task.end);
    } else {
      const int64_t s = task.index - count;
      weight_gradient(layer.batch, layer.strands[s], grads[s], task.begin, task.end,
                      scratch + thread * fusionkit::kLstmScratch);
    }
  });
  results.insert(results.end(), for_weights.begin(), for_weights.end());
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusionkit, m) {
  m.def(
      "lstm(Tensor[] inputs, Tensor? lengths, Tensor[] weights, bool bidirectional, bool save) "
      "-> Tensor[]");
  m.def(
      "lstm_backward(Tensor[] grad_outputs, Tensor[] grad_states, Tensor[] inputs, Tensor? "
      "lengths, Tensor[] weights, Tensor[] outputs, Tensor[] steps, bool bidirectional, int "
      "needs_inputs, bool needs_weights) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(fusionkit, CPU, m) {
  m.impl("lstm", TORCH_BOX(&forward));
  m.impl("lstm_backward", TORCH_BOX(&backward));
}
