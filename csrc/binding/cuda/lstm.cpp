// torch.ops.fusionkit_cuda.lstm_steps and its backward: launches of the recurrence. Which blocks
// take what comes from Python (fusionkit/ops/length_aware_lstm/cuda_plan.py) as six numbers a
// piece: launch, strand, first row, rows, units of a block, rows of a block.
#include "../../kernels/cuda/lstm.h"

#include <climits>
#include <string>

#include "frame.h"

namespace fusionkit::cuda {
namespace {

constexpr size_t kNumbers = 6;

// What the strands of a call share.
struct LstmLayer {
  const char* op;
  int64_t batch, time, directions;
  std::vector<int64_t> hidden;  // of each strand
  std::vector<Tensor> copies;

  LstmLayer(const char* op, const Tensor& like, const std::vector<Tensor>& w_hh, bool bidirectional)
      : op(op),
        batch(like.dim() == 3 ? like.size(0) : 0),
        time(like.dim() == 3 ? like.size(1) : 0),
        directions(bidirectional ? 2 : 1) {
    check(like.dim() == 3 && batch * time < INT_MAX,
          "sequences must be (B, T, N) with B * T below 2^31");
    check(w_hh.size() % directions == 0, "two strands an input where it is bidirectional");
    for (const Tensor& weight : w_hh) {
      hidden.push_back(weight.dim() == 2 ? weight.size(1) : 0);
      check(hidden.back() > 0 && hidden.back() < 1 << 20, "w_hh must be (4H, H)");
    }
  }

  void check(bool holds, const char* what) const {
    STD_TORCH_CHECK(holds, "fusionkit_cuda::", op, ": ", what);
  }

  // Contiguous float32 numbers of this shape on the device of `like`.
  const float* numbers(const Tensor& tensor, std::vector<int64_t> shape, const Tensor& like,
                       const char* name) {
    bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
    std::string wanted;
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      fits = fits && tensor.size(static_cast<int64_t>(axis)) == shape[axis];
      wanted += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
    }
    STD_TORCH_CHECK(fits && tensor.scalar_type() == ScalarType::Float && same_device(tensor, like),
                    "fusionkit_cuda::", op, ": ", name, " must be float32 of shape (", wanted,
                    ") on one device");
    if (tensor.is_contiguous()) return tensor.const_data_ptr<float>();
    return copies.emplace_back(torch::stable::contiguous(tensor)).const_data_ptr<float>();
  }

  // Where the columns of a strand begin in the output of its input.
  int64_t column(size_t strand) const {
    return static_cast<int64_t>(strand) % directions * hidden[strand];
  }
  int64_t columns(size_t strand) const { return directions * hidden[strand]; }
};

// Starts the launches of a plan, `strands` being what the pieces of each strand have in common.
template <class Piece, class SharedBytes, class Launch>
void start(LstmLayer& layer, const std::vector<Piece>& strands, const std::vector<int64_t>& plan,
           const std::optional<Tensor>& lengths, const Tensor& like, SharedBytes* shared_bytes,
           Launch* launch) {
  layer.check(plan.size() % kNumbers == 0, "the plan must hold six numbers a piece");
  const Frame frame(like);
  LstmCall<Piece> call{};
  call.batch = layer.batch;
  call.time = static_cast<int>(layer.time);
  call.lengths = integers(lengths, layer.batch, like, layer.copies, layer.op, "lengths");
  // One counter for each block is more than enough.
  unsigned* arrivals = nullptr;
  int64_t counters = 0;
  for (size_t at = 0; at < plan.size(); at += kNumbers) counters += plan[at + 3];
  if (counters > 0) {
    layer.copies.push_back(torch::stable::new_zeros(like, {counters}, ScalarType::Int));
    arrivals = static_cast<unsigned*>(layer.copies.back().mutable_data_ptr());
  }
  for (size_t at = 0; at < plan.size(); at += kNumbers) {
    const int64_t strand = plan[at + 1], first = plan[at + 2], rows = plan[at + 3];
    const int64_t units = plan[at + 4], block_rows = plan[at + 5];
    layer.check(strand >= 0 && strand < static_cast<int64_t>(strands.size()) && first >= 0 &&
                    rows > 0 && rows <= layer.batch - first && units > 0 &&
                    units <= layer.hidden[strand] && block_rows > 0 && block_rows <= rows,
                "a piece of the plan does not fit the tensors");
    Piece& piece = call.piece[call.pieces++] = strands[strand];
    piece.hidden_size = static_cast<int>(layer.hidden[strand]);
    piece.columns = static_cast<int>(layer.columns(strand));
    piece.reverse = strand % layer.directions == 1;
    piece.first_row = static_cast<int>(first);
    piece.end_row = static_cast<int>(first + rows);
    piece.units = static_cast<int>(units);
    piece.rows = static_cast<int>(block_rows);
    piece.first_block = call.blocks;
    piece.arrivals = arrivals;
    arrivals += rows;
    const int64_t bytes = shared_bytes(piece);
    layer.check(bytes > 0 && bytes <= kLstmSharedBytes, "a piece of the plan is too large");
    call.blocks += blocks_of(piece);
    const size_t next = at + kNumbers;
    if (next < plan.size() && plan[next] == plan[at]) {
      layer.check(call.pieces < kLstmMostPieces, "a launch has too many pieces");
      continue;
    }
    check_launch(launch(call, frame.stream()), layer.op);
    call.pieces = call.blocks = 0;
  }
}

// Outputs (B, T, H * directions) of the inputs, states (2, B, H) of the strands and, with `save`,
// their steps (B, T, 5H); from the projections (B, T, 4H) of the strands.
std::vector<Tensor> forward(const std::vector<Tensor>& projected, const std::vector<Tensor>& w_hh,
                            const std::vector<Tensor>& b_hh, const std::optional<Tensor>& lengths,
                            bool bidirectional, bool save, const std::vector<int64_t>& plan) {
  STD_TORCH_CHECK(
      !projected.empty() && projected.size() == w_hh.size() && projected.size() == b_hh.size(),
      "fusionkit_cuda::lstm_steps: as many w_hh and b_hh as projected, at least one");
  const Tensor& like = projected[0];
  LstmLayer layer("lstm_steps", like, w_hh, bidirectional);
  const int64_t batch = layer.batch, time = layer.time;
  std::vector<Tensor> outputs, states, steps;
  std::vector<LstmForwardPiece> strands(w_hh.size());
  for (size_t s = 0; s < strands.size(); ++s) {
    LstmForwardPiece& strand = strands[s];
    const int64_t hidden = layer.hidden[s], columns = layer.columns(s);
    strand.projected = layer.numbers(projected[s], {batch, time, 4 * hidden}, like, "projected");
    strand.w_hh = layer.numbers(w_hh[s], {4 * hidden, hidden}, like, "w_hh");
    strand.b_hh = layer.numbers(b_hh[s], {4 * hidden}, like, "b_hh");
    if (layer.column(s) == 0) {
      outputs.push_back(torch::stable::new_empty(like, {batch, time, columns}));
    } else {
      layer.check(hidden == layer.hidden[s - 1],
                  "the directions of an input differ in hidden size");
    }
    strand.output = outputs.back().mutable_data_ptr<float>() + layer.column(s);
    states.push_back(torch::stable::new_empty(like, {2, batch, hidden}));
    strand.state = states.back().mutable_data_ptr<float>();
    if (!save) continue;
    steps.push_back(torch::stable::new_empty(like, {batch, time, 5 * hidden}));
    strand.steps = steps.back().mutable_data_ptr<float>();
  }
  start(layer, strands, plan, lengths, like, lstm_forward_shared_bytes, lstm_forward);
  outputs.insert(outputs.end(), states.begin(), states.end());
  outputs.insert(outputs.end(), steps.begin(), steps.end());
  return outputs;
}

// Of each strand the gradients (B, T, 4H) of its gates before activation, and then of each h of the
// step before (B, T, H). `grad_states` may be empty: no gradient.
std::vector<Tensor> backward(const std::vector<Tensor>& grad_outputs,
                             const std::vector<Tensor>& grad_states,
                             const std::vector<Tensor>& w_hh, const std::optional<Tensor>& lengths,
                             const std::vector<Tensor>& outputs, const std::vector<Tensor>& steps,
                             bool bidirectional, const std::vector<int64_t>& plan) {
  STD_TORCH_CHECK(!outputs.empty() && outputs.size() == grad_outputs.size() &&
                      outputs.size() * (bidirectional ? 2 : 1) == w_hh.size() &&
                      steps.size() == w_hh.size() &&
                      (grad_states.empty() || grad_states.size() == w_hh.size()),
                  "fusionkit_cuda::lstm_steps_backward: one gradient an output, one w_hh, one "
                  "tensor of steps and none or one gradient of states a strand");
  const Tensor& like = outputs[0];
  LstmLayer layer("lstm_steps_backward", like, w_hh, bidirectional);
  const int64_t batch = layer.batch, time = layer.time;
  std::vector<Tensor> gates, previous;
  std::vector<LstmBackwardPiece> strands(w_hh.size());
  for (size_t s = 0; s < strands.size(); ++s) {
    LstmBackwardPiece& strand = strands[s];
    const int64_t hidden = layer.hidden[s], columns = layer.columns(s), column = layer.column(s);
    const size_t input = s / static_cast<size_t>(layer.directions);
    strand.grad_output =
        layer.numbers(grad_outputs[input], {batch, time, columns}, like, "grad_outputs") + column;
    strand.output = layer.numbers(outputs[input], {batch, time, columns}, like, "outputs") + column;
    strand.w_hh = layer.numbers(w_hh[s], {4 * hidden, hidden}, like, "w_hh");
    strand.steps = layer.numbers(steps[s], {batch, time, 5 * hidden}, like, "steps");
    if (!grad_states.empty()) {
      strand.grad_state = layer.numbers(grad_states[s], {2, batch, hidden}, like, "grad_states");
    }
    gates.push_back(torch::stable::new_empty(like, {batch, time, 4 * hidden}));
    strand.grad_gates = gates.back().mutable_data_ptr<float>();
    previous.push_back(torch::stable::new_empty(like, {batch, time, hidden}));
    strand.previous = previous.back().mutable_data_ptr<float>();
  }
  start(layer, strands, plan, lengths, like, lstm_backward_shared_bytes, lstm_backward);
  gates.insert(gates.end(), previous.begin(), previous.end());
  return gates;
}

}  // namespace
}  // namespace fusionkit::cuda

FUSIONKIT_CUDA_OPERATORS(m) {
  m.impl("lstm_steps", TORCH_BOX(&fusionkit::cuda::forward));
  m.impl("lstm_steps_backward", TORCH_BOX(&fusionkit::cuda::backward));
}
