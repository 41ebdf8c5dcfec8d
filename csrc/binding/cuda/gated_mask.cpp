// torch.ops.fusionkit_cuda.gated_mask and its backward: checks and outputs around the kernels.
#include "../../kernels/cuda/gated_mask.h"

#include <string>

#include "frame.h"

namespace fusionkit::cuda {

namespace {

// Owns the copies that `inputs` points into; where there is none, it points into the arguments.
struct Prepared {
  std::vector<Tensor> copies;
  GatedMaskInputs inputs{};
};

constexpr const char* kOp = "gated_mask";

GatedMaskTensor add_tensor(Prepared& prepared, const Tensor& tensor, const Tensor& x,
                           const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 3, "fusionkit_cuda::gated_mask: ", name, " must be (B, T, D)");
  STD_TORCH_CHECK(same_device(tensor, x) && tensor.scalar_type() == x.scalar_type(),
                  "fusionkit_cuda::gated_mask: ", name, " must have the device and dtype of x");
  const int64_t* sizes = tensor.sizes().data();
  for (int axis = 0; axis < 3; ++axis) {
    STD_TORCH_CHECK(sizes[axis] == x.size(axis), "fusionkit_cuda::gated_mask: ", name,
                    " and x differ on axis ", axis);
  }
  const bool rows_are_whole = sizes[2] <= 1 || tensor.stride(2) == 1;
  const Tensor& rows =
      rows_are_whole ? tensor : prepared.copies.emplace_back(torch::stable::contiguous(tensor));
  // The stride of an axis of one element says nothing.
  return {rows.const_data_ptr(), sizes[0] > 1 ? rows.stride(0) : sizes[1] * sizes[2],
          sizes[1] > 1 ? rows.stride(1) : sizes[2]};
}

Prepared prepare(const Tensor& x, const std::vector<Tensor>& gate_logits,
                 const std::optional<Tensor>& lengths, double dropout_p,
                 const std::optional<Tensor>& seed) {
  const auto gates = static_cast<int>(gate_logits.size());
  STD_TORCH_CHECK(gates >= 1 && gates <= kMaxGates,
                  "fusionkit_cuda::gated_mask: gate_logits must hold 1 to 8 tensors, got ", gates);
  check_dropout(dropout_p, seed, kOp);
  Prepared prepared;
  // References to copies stay as they are only while there is room.
  prepared.copies.reserve(kMaxGates + 4);
  GatedMaskInputs& in = prepared.inputs;
  in.dtype = dtype_of(x, kOp, "x");
  in.x = add_tensor(prepared, x, x, "x");
  in.gate_count = gates;
  for (int i = 0; i < gates; ++i) {
    in.gates[i] = add_tensor(prepared, gate_logits[i], x, "gate_logits");
  }
  in.batch = x.size(0);
  in.time = x.size(1);
  in.dim = x.size(2);
  in.lengths = integers(lengths, in.batch, x, prepared.copies, kOp, "lengths");
  in.dropout_p = dropout_p;
  in.seed = dropout_p > 0.0 ? integers(seed, 1, x, prepared.copies, kOp, "seed") : nullptr;
  return prepared;
}

Tensor forward(const Tensor& x, const std::vector<Tensor>& gate_logits,
               const std::optional<Tensor>& lengths, double dropout_p,
               const std::optional<Tensor>& seed) {
  const Frame frame(x);
  const Prepared prepared = prepare(x, gate_logits, lengths, dropout_p, seed);
  Tensor out = empty({x.size(0), x.size(1), x.size(2)}, x);
  if (out.numel() == 0) return out;
  check_launch(gated_mask_forward(prepared.inputs, out.mutable_data_ptr(), frame.stream()), kOp);
  return out;
}

// `needs` has bit 0 set for the gradient of x and bit i + 1 for that of gate i; only those come
// back, in this order.
std::vector<Tensor> backward(const Tensor& grad_out, const Tensor& x,
                             const std::vector<Tensor>& gate_logits,
                             const std::optional<Tensor>& lengths, double dropout_p,
                             const std::optional<Tensor>& seed, int64_t needs) {
  const Frame frame(x);
  Prepared prepared = prepare(x, gate_logits, lengths, dropout_p, seed);
  const GatedMaskTensor upstream = add_tensor(prepared, grad_out, x, "grad_out");
  std::vector<Tensor> outputs;
  const auto output_if = [&](bool wanted) -> void* {
    if (!wanted) return nullptr;
    return outputs.emplace_back(empty({x.size(0), x.size(1), x.size(2)}, x)).mutable_data_ptr();
  };
  GatedMaskGradients grads{};
  grads.x = output_if(needs & 1);
  for (int i = 0; i < prepared.inputs.gate_count; ++i) {
    grads.gates[i] = output_if(needs >> (i + 1) & 1);
  }
  if (outputs.empty() || x.numel() == 0) return outputs;
  check_launch(gated_mask_backward(prepared.inputs, upstream, grads, frame.stream()), kOp);
  return outputs;
}

}  // namespace

}  // namespace fusionkit::cuda

FUSIONKIT_CUDA_OPERATORS(m) {
  m.impl("gated_mask", TORCH_BOX(&fusionkit::cuda::forward));
  m.impl("gated_mask_backward", TORCH_BOX(&fusionkit::cuda::backward));
}
