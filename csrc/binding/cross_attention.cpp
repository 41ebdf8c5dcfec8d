// torch.ops.fusionkit.cross_attention, cross_attention_pairs and their backward: checks, outputs
// and threads around the kernel.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../kernels/cpu/attention_work.h"
#include "attention_inputs.h"
#include "work_queue.h"

namespace {

using fusionkit::AttentionBackwardCall;
using fusionkit::AttentionForwardCall;
using fusionkit::AttentionInputs;
using fusionkit::AttentionTensor;
using namespace fusionkit::binding;

void run_parallel(int64_t count, int64_t workers, const std::function<void(int64_t)>& work) {
  workers = std::min<int64_t>(workers, torch::stable::get_num_threads());
  run_queue(count, workers, [&](int64_t i, int64_t) { work(i); });
}

struct Results {
  Tensor out, row_sums;
};

std::vector<Results> forward_all(const std::vector<Arguments>& all) {
  std::vector<Prepared> prepared;
  std::vector<AttentionForwardCall> calls;
  std::vector<Results> results;
  for (const Arguments& args : all) {
    prepared.push_back(prepare(args));
    const AttentionInputs& in = prepared.back().in;
    const int64_t rows = in.batch * in.heads * in.num_queries;
    results.push_back(
        {empty_as(args.query, in.num_queries, in.value_dim),
         torch::stable::new_empty(args.query, {2, in.batch, in.heads, in.num_queries})});
    float* sums = results.back().row_sums.mutable_data_ptr<float>();
    calls.push_back({in, {output_of(results.back().out), sums, sums + rows}});
  }
  fusionkit::attention_forward_all(calls, run_parallel);
  return results;
}

struct Upstream {
  Tensor grad_out, out, row_sums;
};

// Bits of `needs`: gradients of query, key, value and scores; only those come back, in this order,
// those of one call after those of another.
std::vector<Tensor> backward_all(const std::vector<Upstream>& upstream,
                                 const std::vector<Arguments>& all, int64_t needs) {
  std::vector<Prepared> prepared;
  std::vector<Tensor> owned, results;
  std::vector<AttentionBackwardCall> calls;
  for (size_t i = 0; i < all.size(); ++i) {
    const Arguments& args = all[i];
    prepared.push_back(prepare(args));
    const AttentionInputs& in = prepared.back().in;
    const auto& [grad_out, out, row_sums] = upstream[i];
    const int64_t sums_shape[4] = {2, in.batch, in.heads, in.num_queries};
    check_tensor(row_sums, "row_sums", 4);
    const int64_t shape[4] = {in.batch, in.heads, in.num_queries, in.value_dim};
    check_tensor(grad_out, "grad_out", 4);
    check_tensor(out, "out", 4);
    for (int64_t axis = 0; axis < 4; ++axis) {
      check_size(grad_out, "grad_out", axis, shape[axis]);
      check_size(out, "out", axis, shape[axis]);
      check_size(row_sums, "row_sums", axis, sums_shape[axis]);
    }
    owned.push_back(torch::stable::contiguous(row_sums));
    const float* largest = owned.back().const_data_ptr<float>();
    const float* sum = largest + in.batch * in.heads * in.num_queries;
    fusionkit::AttentionGradients grads{
        add_input(owned, grad_out), add_input(owned, out), largest, sum, {}, {}, {}, nullptr};
    const auto output_if = [&](int64_t bit, const Tensor& like, int64_t steps, int64_t size,
                               AttentionTensor<float>& to) {
      if ((needs >> bit & 1) == 0) return;
      results.push_back(empty_as(like, steps, size));
      to = output_of(results.back());
    };
    output_if(0, args.query, in.num_queries, in.head_dim, grads.query);
    output_if(1, args.key, in.num_keys, in.head_dim, grads.key);
    output_if(2, args.value, in.num_keys, in.value_dim, grads.value);
    if (needs >> 3 & 1) {
      const std::vector<int64_t> size = {in.batch, in.heads, in.num_queries, in.num_keys};
      results.push_back(torch::stable::new_zeros(args.query, size));
      grads.scores = results.back().mutable_data_ptr<float>();
    }
    calls.push_back({in, grads});
  }
  fusionkit::attention_backward_all(calls, run_parallel);
  return results;
}

std::tuple<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const std::optional<Tensor>& bias,
                                   const std::optional<Tensor>& key_lengths,
                                   const std::optional<Tensor>& query_lengths, double scale,
                                   double dropout_p, const std::optional<Tensor>& seed) {
  const auto results =
      forward_all({{query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed}});
  return {results[0].out, results[0].row_sums};
}

std::vector<Tensor> backward(const Tensor& grad_out, const Tensor& query, const Tensor& key,
                             const Tensor& value, const Tensor& out, const Tensor& row_sums,
                             const std::optional<Tensor>& bias,
                             const std::optional<Tensor>& key_lengths,
                             const std::optional<Tensor>& query_lengths, double scale,
                             double dropout_p, const std::optional<Tensor>& seed, int64_t needs) {
  return backward_all(
      {{grad_out, out, row_sums}},
      {{query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed}}, needs);
}

std::vector<Arguments> pair_arguments(const std::vector<Tensor>& query,
                                      const std::vector<Tensor>& key,
                                      const std::vector<Tensor>& value,
                                      const std::vector<Tensor>& key_lengths,
                                      const std::vector<Tensor>& query_lengths,
                                      const std::vector<double>& scale, double dropout_p,
                                      const std::vector<Tensor>& seed) {
  const size_t count = query.size();
  const auto check_count = [&](size_t found, const char* name, bool optional) {
    STD_TORCH_CHECK(found == count || (optional && found == 0),
                    "fusionkit::cross_attention_pairs: ", name, " must hold ", count,
                    " entries, one a pair, got ", found);
  };
  check_count(key.size(), "key", false);
  check_count(value.size(), "value", false);
  check_count(key_lengths.size(), "key_lengths", true);
  check_count(query_lengths.size(), "query_lengths", true);
  check_count(scale.size(), "scale", false);
  check_count(seed.size(), "seed", true);
  const auto entry = [](const std::vector<Tensor>& list, size_t i) {
    return list.empty() ? std::nullopt : std::optional<Tensor>(list[i]);
  };
  std::vector<Arguments> all;
  for (size_t i = 0; i < count; ++i) {
    all.push_back({query[i], key[i], value[i], std::nullopt, entry(key_lengths, i),
                   entry(query_lengths, i), scale[i], dropout_p, entry(seed, i)});
  }
  return all;
}

// The outputs of all pairs, then their row sums.
std::vector<Tensor> forward_pairs(const std::vector<Tensor>& query, const std::vector<Tensor>& key,
                                  const std::vector<Tensor>& value,
                                  const std::vector<Tensor>& key_lengths,
                                  const std::vector<Tensor>& query_lengths,
                                  const std::vector<double>& scale, double dropout_p,
                                  const std::vector<Tensor>& seed) {
  const auto results = forward_all(
      pair_arguments(query, key, value, key_lengths, query_lengths, scale, dropout_p, seed));
  std::vector<Tensor> tensors;
  for (const Results& result : results) tensors.push_back(result.out);
  for (const Results& result : results) tensors.push_back(result.row_sums);
  return tensors;
}

// The gradients of query, key and value of the first pair, then of the second, and so on.
std::vector<Tensor> backward_pairs(const std::vector<Tensor>& grad_out,
                                   const std::vector<Tensor>& query, const std::vector<Tensor>& key,
                                   const std::vector<Tensor>& value, const std::vector<Tensor>& out,
                                   const std::vector<Tensor>& row_sums,
                                   const std::vector<Tensor>& key_lengths,
                                   const std::vector<Tensor>& query_lengths,
                                   const std::vector<double>& scale, double dropout_p,
                                   const std::vector<Tensor>& seed) {
  STD_TORCH_CHECK(grad_out.size() == query.size() && out.size() == query.size() &&
                      row_sums.size() == query.size(),
                  "fusionkit::cross_attention_pairs_backward: grad_out, out and row_sums must "
                  "hold one entry a pair");
  std::vector<Upstream> upstream;
  for (size_t i = 0; i < query.size(); ++i) {
    upstream.push_back({grad_out[i], out[i], row_sums[i]});
  }
  constexpr int64_t kQueryKeyValue = 0b111;
  return backward_all(
      upstream,
      pair_arguments(query, key, value, key_lengths, query_lengths, scale, dropout_p, seed),
      kQueryKeyValue);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusionkit, m) {
  m.def(
      "cross_attention(Tensor query, Tensor key, Tensor value, Tensor? bias, Tensor? key_lengths, "
      "Tensor? query_lengths, float scale, float dropout_p, Tensor? seed) -> (Tensor, Tensor)");
  m.def(
      "cross_attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor "
      "out, Tensor row_sums, Tensor? bias, Tensor? key_lengths, Tensor? query_lengths, float "
      "scale, float dropout_p, Tensor? seed, int needs) -> Tensor[]");
  m.def(
      "cross_attention_pairs(Tensor[] query, Tensor[] key, Tensor[] value, Tensor[] key_lengths, "
      "Tensor[] query_lengths, float[] scale, float dropout_p, Tensor[] seed) -> Tensor[]");
  m.def(
      "cross_attention_pairs_backward(Tensor[] grad_out, Tensor[] query, Tensor[] key, Tensor[] "
      "value, Tensor[] out, Tensor[] row_sums, Tensor[] key_lengths, Tensor[] query_lengths, "
      "float[] scale, float dropout_p, Tensor[] seed) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(fusionkit, CPU, m) {
  m.impl("cross_attention", TORCH_BOX(&forward));
  m.impl("cross_attention_backward", TORCH_BOX(&backward));
  m.impl("cross_attention_pairs", TORCH_BOX(&forward_pairs));
  m.impl("cross_attention_pairs_backward", TORCH_BOX(&backward_pairs));
}
