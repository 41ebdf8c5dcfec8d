// torch.ops.fusionkit.gated_mask and its backward: checks, outputs and threads around the kernel.
#include "../kernels/cpu/gated_mask.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "../kernels/cpu/dispatch.h"

namespace {

using fusionkit::GatedMaskGradients;
using fusionkit::GatedMaskInputs;
using fusionkit::GatedMaskRows;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Owns the copies that `inputs` points into; where there is none, it points into the arguments.
struct Prepared {
  std::vector<Tensor> copies;
  GatedMaskInputs inputs{};
  int64_t rows = 0;
  int64_t grain = 1;
};

// Names are put together for messages only: this runs on every call.
constexpr int kX = -1, kGradOut = -2;
std::string name_of(int tensor) {
  if (tensor == kX) return "x";
  if (tensor == kGradOut) return "grad_out";
  return "gate_logits[" + std::to_string(tensor) + "]";
}

GatedMaskRows add_rows(Prepared& prepared, const Tensor& tensor, const int64_t* sizes_of_x,
                       int which) {
  STD_TORCH_CHECK(tensor.dim() == 3, "fusionkit::gated_mask: ", name_of(which),
                  " must be (B, T, D)");
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.is_cpu(),
                  "fusionkit::gated_mask: ", name_of(which), " must be float32 on the CPU");
  const int64_t* sizes = tensor.sizes().data();
  for (int axis = 0; axis < 3; ++axis) {
    STD_TORCH_CHECK(sizes[axis] == sizes_of_x[axis], "fusionkit::gated_mask: ", name_of(which),
                    " and x differ on axis ", axis);
  }
  const int64_t* strides = tensor.strides().data();
  if (sizes[2] <= 1 || strides[2] == 1) {
    return {tensor.const_data_ptr<float>(), strides[0], strides[1]};
  }
  const Tensor& copy = prepared.copies.emplace_back(torch::stable::contiguous(tensor));
  return {copy.const_data_ptr<float>(), copy.stride(0), copy.stride(1)};
}

const int64_t* add_integers(Prepared& prepared, const Tensor& tensor, const char* name,
                            int64_t count) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Long && tensor.is_cpu(),
                  "fusionkit::gated_mask: ", name, " must be int64 on the CPU");
  STD_TORCH_CHECK(tensor.numel() == count, "fusionkit::gated_mask: ", name, " must hold ", count,
                  " numbers, got ", tensor.numel());
  if (tensor.is_contiguous()) return tensor.const_data_ptr<int64_t>();
  const Tensor& copy = prepared.copies.emplace_back(torch::stable::contiguous(tensor));
  return copy.const_data_ptr<int64_t>();
}

Prepared prepare(const Tensor& x, const std::vector<Tensor>& gate_logits,
                 const std::optional<Tensor>& lengths, double dropout_p,
                 const std::optional<Tensor>& seed) {
  const auto gates = static_cast<int64_t>(gate_logits.size());
  STD_TORCH_CHECK(gates >= 1 && gates <= fusionkit::kMaxGates,
                  "fusionkit::gated_mask: gate_logits must hold 1 to 8 tensors, got ", gates);
  STD_TORCH_CHECK(dropout_p >= 0.0 && dropout_p < 1.0,
                  "fusionkit::gated_mask: dropout_p must be in [0, 1), got ", dropout_p);
  STD_TORCH_CHECK(dropout_p == 0.0 || seed.has_value(),
                  "fusionkit::gated_mask: seed is required when dropout_p > 0");
  Prepared prepared;
  GatedMaskInputs& in = prepared.inputs;
  const int64_t* sizes = x.sizes().data();
  in.x = add_rows(prepared, x, sizes, kX);
  in.gate_count = static_cast<int>(gates);
  for (int i = 0; i < in.gate_count; ++i) {
    in.gates[i] = add_rows(prepared, gate_logits[i], sizes, i);
  }
  in.time = sizes[1];
  in.dim = sizes[2];
  in.lengths = lengths ? add_integers(prepared, *lengths, "lengths", sizes[0]) : nullptr;
  in.dropout_p = dropout_p;
  in.seed = dropout_p > 0.0 ? static_cast<uint64_t>(*add_integers(prepared, *seed, "seed", 1)) : 0;
  prepared.rows = sizes[0] * sizes[1];
  // As torch: threads get at least 32768 operations, counting one for x and one for each gate.
  prepared.grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, in.dim * (gates + 1)));
  return prepared;
}

// By the shim itself: new_empty looks its operator up by name, which takes longer than the rest.
Tensor contiguous_like(const Tensor& x) {
  const int64_t* sizes = x.sizes().data();
  const int64_t strides[3] = {sizes[1] * sizes[2], sizes[2], 1};
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(3, sizes, strides, aoti_torch_dtype_float32(),
                                                  aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Tensor forward(const Tensor& x, const std::vector<Tensor>& gate_logits,
               const std::optional<Tensor>& lengths, double dropout_p,
               const std::optional<Tensor>& seed) {
  const Prepared prepared = prepare(x, gate_logits, lengths, dropout_p, seed);
  Tensor out = contiguous_like(x);
  float* data = out.mutable_data_ptr<float>();
  const auto kernel = FUSIONKIT_DISPATCH(gated_mask_forward);
  torch::stable::parallel_for(0, prepared.rows, prepared.grain, [&](int64_t begin, int64_t end) {
    kernel(prepared.inputs, data, begin, end);
  });
  return out;
}

// `needs` has bit 0 set for the gradient of x and bit i + 1 for that of gate i; only those come
// back, in this order.
std::vector<Tensor> backward(const Tensor& grad_out, const Tensor& x,
                             const std::vector<Tensor>& gate_logits,
                             const std::optional<Tensor>& lengths, double dropout_p,
                             const std::optional<Tensor>& seed, int64_t needs) {
  Prepared prepared = prepare(x, gate_logits, lengths, dropout_p, seed);
  const GatedMaskRows upstream = add_rows(prepared, grad_out, x.sizes().data(), kGradOut);
  std::vector<Tensor> outputs;
  outputs.reserve(prepared.inputs.gate_count + 1);
  GatedMaskGradients grads{};
  const auto output_if = [&](bool wanted) -> float* {
    if (!wanted) return nullptr;
    outputs.push_back(contiguous_like(x));
    return outputs.back().mutable_data_ptr<float>();
  };
  grads.x = output_if(needs & 1);
  for (int i = 0; i < prepared.inputs.gate_count; ++i) {
    grads.gates[i] = output_if(needs >> (i + 1) & 1);
  }
  const auto kernel = FUSIONKIT_DISPATCH(gated_mask_backward);
  torch::stable::parallel_for(0, prepared.rows, prepared.grain, [&](int64_t begin, int64_t end) {
    kernel(prepared.inputs, upstream, grads, begin, end);
  });
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusionkit, m) {
  m.def(
      "gated_mask(Tensor x, Tensor[] gate_logits, Tensor? lengths, float dropout_p, Tensor? seed) "
      "-> Tensor");
  m.def(
      "gated_mask_backward(Tensor grad_out, Tensor x, Tensor[] gate_logits, Tensor? lengths, "
      "float dropout_p, Tensor? seed, int needs) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(fusionkit, CPU, m) {
  m.impl("gated_mask", TORCH_BOX(&forward));
  m.impl("gated_mask_backward", TORCH_BOX(&backward));
}
