#include "attention_inputs.h"

namespace fusionkit::binding {

using torch::headeronly::ScalarType;

namespace {

constexpr int64_t kMaxHeadDim = 256;

const int64_t* add_integers(Prepared& prepared, const Tensor& tensor, const char* name,
                            int64_t count, int64_t largest) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Long && tensor.is_cpu(),
                  "fusionkit::cross_attention: ", name, " must be int64 on the CPU");
  STD_TORCH_CHECK(tensor.numel() == count, "fusionkit::cross_attention: ", name, " must hold ",
                  count, " numbers, got ", tensor.numel());
  prepared.owned.push_back(torch::stable::contiguous(tensor));
  const int64_t* data = prepared.owned.back().const_data_ptr<int64_t>();
  if (largest >= 0) {
    for (int64_t i = 0; i < count; ++i) {
      STD_TORCH_CHECK(data[i] >= 0 && data[i] <= largest, "fusionkit::cross_attention: ", name,
                      " must be in [0, ", largest, "], got ", data[i]);
    }
  }
  return data;
}

void add_bias(Prepared& prepared, const Tensor& bias) {
  AttentionInputs& in = prepared.in;
  check_tensor(bias, "bias", 4);
  const int64_t full[4] = {in.batch, in.heads, in.num_queries, in.num_keys};
  int64_t stride[4];
  for (int64_t axis = 0; axis < 4; ++axis) {
    if (bias.size(axis) != 1) check_size(bias, "bias", axis, full[axis]);
    stride[axis] = bias.size(axis) == 1 ? 0 : bias.stride(axis);
  }
  prepared.owned.push_back(bias);
  in.bias = {bias.const_data_ptr<float>(), stride[0], stride[1], stride[2], stride[3]};
}

}  // namespace

void check_tensor(const Tensor& tensor, const std::string& name, int64_t dims) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.is_cpu(),
                  "fusionkit::cross_attention: ", name, " must be float32 on the CPU");
  STD_TORCH_CHECK(tensor.dim() == dims, "fusionkit::cross_attention: ", name, " must have ", dims,
                  " axes, got ", tensor.dim());
}

void check_size(const Tensor& tensor, const std::string& name, int64_t axis, int64_t size) {
  STD_TORCH_CHECK(tensor.size(axis) == size, "fusionkit::cross_attention: ", name,
                  " must have size ", size, " on axis ", axis, ", got ", tensor.size(axis));
}

AttentionTensor<const float> add_input(std::vector<Tensor>& owned, const Tensor& tensor) {
  const bool dense_rows = tensor.size(3) <= 1 || tensor.stride(3) == 1;
  owned.push_back(dense_rows ? tensor : torch::stable::contiguous(tensor));
  const Tensor& dense = owned.back();
  return {dense.const_data_ptr<float>(), dense.stride(0), dense.stride(1), dense.stride(2)};
}

AttentionTensor<float> output_of(Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

Prepared prepare(const Arguments& args) {
  const Tensor &query = args.query, &key = args.key, &value = args.value;
  check_tensor(query, "query", 4);
  check_tensor(key, "key", 4);
  check_tensor(value, "value", 4);
  for (int64_t axis = 0; axis < 2; ++axis) {
    check_size(key, "key", axis, query.size(axis));
    check_size(value, "value", axis, query.size(axis));
  }
  check_size(key, "key", 3, query.size(3));
  check_size(value, "value", 2, key.size(2));
  STD_TORCH_CHECK(
      query.size(3) >= 1 && query.size(3) <= kMaxHeadDim && value.size(3) <= kMaxHeadDim,
      "fusionkit::cross_attention: head dims must be 1 to ", kMaxHeadDim, ", got ", query.size(3),
      " and ", value.size(3));
  STD_TORCH_CHECK(args.dropout_p >= 0.0 && args.dropout_p < 1.0,
                  "fusionkit::cross_attention: dropout_p must be in [0, 1), got ", args.dropout_p);
  STD_TORCH_CHECK(args.dropout_p == 0.0 || args.seed.has_value(),
                  "fusionkit::cross_attention: seed is required when dropout_p > 0");
  Prepared prepared;
  AttentionInputs& in = prepared.in;
  in.batch = query.size(0);
  in.heads = query.size(1);
  in.num_queries = query.size(2);
  in.num_keys = key.size(2);
  in.head_dim = query.size(3);
  in.value_dim = value.size(3);
  in.query = add_input(prepared.owned, query);
  in.key = add_input(prepared.owned, key);
  in.value = add_input(prepared.owned, value);
  if (args.bias) add_bias(prepared, *args.bias);
  if (args.key_lengths) {
    in.key_lengths =
        add_integers(prepared, *args.key_lengths, "key_lengths", in.batch, in.num_keys);
  }
  if (args.query_lengths) {
    in.query_lengths =
        add_integers(prepared, *args.query_lengths, "query_lengths", in.batch, in.num_queries);
  }
  in.scale = static_cast<float>(args.scale);
  in.dropout_p = args.dropout_p;
  if (args.dropout_p > 0.0) {
    in.seed = static_cast<uint64_t>(*add_integers(prepared, *args.seed, "seed", 1, -1));
  }
  return prepared;
}

// (B, H, T, size) with the order of `like`'s strides: heads split out of (B, T, H * D) stay
// together in memory, so that putting them side by side again needs no copy.
Tensor empty_as(const Tensor& like, int64_t steps, int64_t size) {
  const int64_t batch = like.size(0), heads = like.size(1);
  if (like.stride(1) >= like.stride(2)) {
    return torch::stable::new_empty(like, {batch, heads, steps, size});
  }
  return torch::stable::transpose(torch::stable::new_empty(like, {batch, steps, heads, size}), 1,
                                  2);
}

}  // namespace fusionkit::binding
