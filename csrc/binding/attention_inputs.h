// From the arguments of torch.ops.fusionkit.cross_attention to what the kernel takes: checks,
// strides, and outputs in the layout of the inputs.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "../kernels/cpu/attention.h"

namespace fusionkit::binding {

using torch::stable::Tensor;

// The arguments that forward and backward share, for one call.
struct Arguments {
  Tensor query, key, value;
  std::optional<Tensor> bias, key_lengths, query_lengths;
  double scale;
  double dropout_p;
  std::optional<Tensor> seed;
};

// What `AttentionInputs` points into.
struct Prepared {
  std::vector<Tensor> owned;
  AttentionInputs in{};
};

// Raises unless the tensor is float32 on the CPU with `dims` axes, or has this size on an axis.
void check_tensor(const Tensor& tensor, const std::string& name, int64_t dims);
void check_size(const Tensor& tensor, const std::string& name, int64_t axis, int64_t size);

// Rows of `tensor` (B, H, T, D), which are made dense if they are not; `owned` keeps them alive.
AttentionTensor<const float> add_input(std::vector<Tensor>& owned, const Tensor& tensor);
AttentionTensor<float> output_of(Tensor& tensor);

// Checks everything, lengths included.
Prepared prepare(const Arguments& args);

// (B, H, T, size) with the order of `like`'s strides: heads split out of (B, T, H * D) stay
// together in memory, so that putting them side by side again needs no copy.
Tensor empty_as(const Tensor& like, int64_t steps, int64_t size);

}  // namespace fusionkit::binding
