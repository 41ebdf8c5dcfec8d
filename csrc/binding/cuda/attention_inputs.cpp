#include "attention_inputs.h"

#include <cmath>
#include <limits>

namespace fusionkit::cuda {

namespace {

// The arguments of one call; `copies` live until the launch, in the order of the stream after it.
class Preparation {
 public:
  Preparation(const AttentionArguments& first, const char* op)
      : op_(op), like_(first.query), dtype_(dtype_of(first.query, op, "query")) {
    check_dropout(first.dropout_p, first.seed, op);
  }

  fk::Dtype dtype() const { return dtype_; }

  AttentionDropout dropout(double p) const {
    return {static_cast<uint32_t>(p * 4294967296.0), static_cast<float>(1.0 / (1.0 - p))};
  }

  AttentionInputs inputs(const AttentionArguments& args) {
    const Tensor &query = args.query, &key = args.key, &value = args.value;
    check(query, "query");
    check(key, "key");
    check(value, "value");
    for (int64_t axis = 0; axis < 2; ++axis) {
      check_size(key, "key", axis, query.size(axis));
      check_size(value, "value", axis, query.size(axis));
    }
    check_size(key, "key", 3, query.size(3));
    check_size(value, "value", 2, key.size(2));
    STD_TORCH_CHECK(query.size(3) >= 1 && query.size(3) <= kAttentionMaxHeadDim &&
                        value.size(3) <= kAttentionMaxHeadDim,
                    "fusionkit_cuda::", op_, ": head dims must be 1 to ", kAttentionMaxHeadDim,
                    ", got ", query.size(3), " and ", value.size(3));
    AttentionInputs in{};
    in.batch = number(query.size(0));
    in.heads = number(query.size(1));
    in.num_queries = number(query.size(2));
    in.num_keys = number(key.size(2));
    in.head_dim = number(query.size(3));
    in.value_dim = number(value.size(3));
    in.query = input(query, "query");
    in.key = input(key, "key");
    in.value = input(value, "value");
    if (args.bias) in.bias = bias(*args.bias, in);
    in.key_lengths = integers(args.key_lengths, in.batch, like_, copies_, op_, "key_lengths");
    in.query_lengths = integers(args.query_lengths, in.batch, like_, copies_, op_, "query_lengths");
    if (args.dropout_p > 0.0) in.seed = integers(args.seed, 1, like_, copies_, op_, "seed");
    STD_TORCH_CHECK(args.dropout_p == 0.0 || in.seed != nullptr, "fusionkit_cuda::", op_,
                    ": seed is required when dropout_p > 0");
    in.scale = static_cast<float>(args.scale);
    return in;
  }

  // Rows that are not dense are copied.
  AttentionTensor input(const Tensor& tensor, const char* name) {
    check(tensor, name);
    const bool dense = tensor.size(3) <= 1 || tensor.stride(3) == 1;
    const Tensor& rows = dense ? tensor : copies_.emplace_back(torch::stable::contiguous(tensor));
    return described(rows, const_cast<void*>(rows.const_data_ptr()));
  }

  AttentionTensor output(Tensor& tensor) const {
    return described(tensor, tensor.mutable_data_ptr());
  }

  const float* row_sums(const Tensor& sums, const AttentionInputs& in) {
    STD_TORCH_CHECK(sums.scalar_type() == ScalarType::Float && same_device(sums, like_) &&
                        sums.numel() == 2 * int64_t{in.batch} * in.heads * in.num_queries,
                    "fusionkit_cuda::", op_,
                    ": row_sums must be float32 (2, B, H, Tq) on the device of the query");
    if (sums.is_contiguous()) return sums.const_data_ptr<float>();
    return copies_.emplace_back(torch::stable::contiguous(sums)).const_data_ptr<float>();
  }

  void check_size(const Tensor& tensor, const std::string& name, int64_t axis, int64_t size) const {
    STD_TORCH_CHECK(tensor.size(axis) == size, "fusionkit_cuda::", op_, ": ", name,
                    " must have size ", size, " on axis ", axis, ", got ", tensor.size(axis));
  }

 private:
  void check(const Tensor& tensor, const std::string& name) const {
    STD_TORCH_CHECK(same_device(tensor, like_), "fusionkit_cuda::", op_, ": ", name,
                    " must be on the CUDA device of the query");
    STD_TORCH_CHECK(tensor.scalar_type() == like_.scalar_type(), "fusionkit_cuda::", op_, ": ",
                    name, " must have the dtype of the query");
    STD_TORCH_CHECK(tensor.dim() == 4, "fusionkit_cuda::", op_, ": ", name,
                    " must have 4 axes, got ", tensor.dim());
  }

  int number(int64_t size) const {
    STD_TORCH_CHECK(size <= std::numeric_limits<int>::max(), "fusionkit_cuda::", op_,
                    ": sizes and strides must be below 2^31, got ", size);
    return static_cast<int>(size);
  }

  AttentionTensor described(const Tensor& tensor, void* data) const {
    AttentionTensor result{data, 0, 0, 0, 1};
    int* strides[] = {&result.batch_stride, &result.head_stride, &result.step_stride};
    for (int64_t axis = 0; axis < 3; ++axis) {
      // An axis of size 1 may have any stride.
      *strides[axis] = tensor.size(axis) > 1 ? number(tensor.stride(axis)) : 0;
      if (*strides[axis] % 4 != 0) result.vectors = 0;
    }
    const size_t four = dtype_ == fk::Dtype::float32 ? 16 : 8;
    if (reinterpret_cast<uintptr_t>(data) % four != 0) result.vectors = 0;
    return result;
  }

  AttentionBias bias(const Tensor& bias, const AttentionInputs& in) const {
    STD_TORCH_CHECK(
        bias.scalar_type() == ScalarType::Float && same_device(bias, like_) && bias.dim() == 4,
        "fusionkit_cuda::", op_, ": bias must be float32 with 4 axes on the device of the query");
    const int64_t full[4] = {in.batch, in.heads, in.num_queries, in.num_keys};
    AttentionBias result{bias.const_data_ptr<float>(), 0, 0, 0, 0};
    int* strides[] = {&result.batch_stride, &result.head_stride, &result.row_stride,
                      &result.column_stride};
    for (int64_t axis = 0; axis < 4; ++axis) {
      if (bias.size(axis) == 1) continue;
      check_size(bias, "bias", axis, full[axis]);
      *strides[axis] = number(bias.stride(axis));
    }
    return result;
  }

  const char* op_;
  Tensor like_;
  fk::Dtype dtype_;
  std::vector<Tensor> copies_;
};

// (B, H, T, size) with the order of `like`'s strides: heads split out of (B, T, H * D) stay
// together in memory, so that putting them side by side again needs no copy.
Tensor empty_as(const Tensor& like, int64_t steps, int64_t size) {
  const int64_t batch = like.size(0), heads = like.size(1);
  if (like.stride(1) >= like.stride(2)) return empty({batch, heads, steps, size}, like);
  return torch::stable::transpose(empty({batch, steps, heads, size}, like), 1, 2);
}

}  // namespace

std::vector<AttentionResults> attention_forward_all(const std::vector<AttentionArguments>& all,
                                                    const char* op) {
  std::vector<AttentionResults> results;
  if (all.empty()) return results;
  STD_TORCH_CHECK(on_device(all[0].query), "fusionkit_cuda::", op,
                  ": query must be on a CUDA device");
  const Frame frame(all[0].query);
  Preparation prepare(all[0], op);
  std::vector<AttentionForwardPair> pairs;
  for (const AttentionArguments& args : all) {
    const AttentionInputs in = prepare.inputs(args);
    results.push_back(
        {empty_as(args.query, in.num_queries, in.value_dim),
         empty({2, in.batch, in.heads, in.num_queries}, aoti_torch_dtype_float32(), args.query)});
    AttentionResults& result = results.back();
    pairs.push_back({in, prepare.output(result.out), result.row_sums.mutable_data_ptr<float>()});
  }
  check_launch(
      attention_forward(prepare.dtype(), pairs, prepare.dropout(all[0].dropout_p), frame.stream()),
      op);
  return results;
}

std::vector<Tensor> attention_backward_all(const std::vector<AttentionUpstream>& upstream,
                                           const std::vector<AttentionArguments>& all,
                                           int64_t needs, const char* op) {
  std::vector<Tensor> results;
  if (all.empty()) return results;
  STD_TORCH_CHECK(on_device(all[0].query), "fusionkit_cuda::", op,
                  ": query must be on a CUDA device");
  const Frame frame(all[0].query);
  Preparation prepare(all[0], op);
  std::vector<AttentionBackwardPair> pairs;
  for (size_t i = 0; i < all.size(); ++i) {
    const AttentionArguments& args = all[i];
    const auto& [grad_out, out, row_sums] = upstream[i];
    AttentionBackwardPair pair{};
    pair.in = prepare.inputs(args);
    const AttentionInputs& in = pair.in;
    pair.grad_out = prepare.input(grad_out, "grad_out");
    pair.out = prepare.input(out, "out");
    pair.row_sums = prepare.row_sums(row_sums, in);
    const int64_t shape[4] = {in.batch, in.heads, in.num_queries, in.value_dim};
    for (int64_t axis = 0; axis < 4; ++axis) {
      prepare.check_size(grad_out, "grad_out", axis, shape[axis]);
      prepare.check_size(out, "out", axis, shape[axis]);
    }
    const auto output_if = [&](int64_t bit, const Tensor& like, AttentionTensor& to) {
      if ((needs >> bit & 1) == 0) return;
      results.push_back(empty_as(like, like.size(2), like.size(3)));
      to = prepare.output(results.back());
    };
    output_if(0, args.query, pair.query);
    output_if(1, args.key, pair.key);
    output_if(2, args.value, pair.value);
    if (needs >> 3 & 1) {
      results.push_back(empty({in.batch, in.heads, in.num_queries, in.num_keys},
                              aoti_torch_dtype_float32(), args.query));
      torch::stable::zero_(results.back());
      pair.scores = results.back().mutable_data_ptr<float>();
    }
    pairs.push_back(pair);
  }
  check_launch(
      attention_backward(prepare.dtype(), pairs, prepare.dropout(all[0].dropout_p), frame.stream()),
      op);
  return results;
}

}  // namespace fusionkit::cuda
