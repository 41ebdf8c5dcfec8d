// torch.ops.fusionkit_cuda.cross_attention_pairs and its backward: one launch for all pairs.
#include <optional>
#include <vector>

#include "attention_inputs.h"

namespace {

using namespace fusionkit::cuda;

std::vector<AttentionArguments> arguments_of(const std::vector<Tensor>& query,
                                             const std::vector<Tensor>& key,
                                             const std::vector<Tensor>& value,
                                             const std::vector<Tensor>& key_lengths,
                                             const std::vector<Tensor>& query_lengths,
                                             const std::vector<double>& scale, double dropout_p,
                                             const std::vector<Tensor>& seed) {
  const size_t count = query.size();
  const auto check_count = [&](size_t found, const char* name, bool optional) {
    STD_TORCH_CHECK(found == count || (optional && found == 0),
                    "fusionkit_cuda::cross_attention_pairs: ", name, " must hold ", count,
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
  std::vector<AttentionArguments> all;
  for (size_t i = 0; i < count; ++i) {
    all.push_back({query[i], key[i], value[i], std::nullopt, entry(key_lengths, i),
                   entry(query_lengths, i), scale[i], dropout_p, entry(seed, i)});
  }
  return all;
}

// The outputs of all pairs, then their row sums.
std::vector<Tensor> forward(const std::vector<Tensor>& query, const std::vector<Tensor>& key,
                            const std::vector<Tensor>& value,
                            const std::vector<Tensor>& key_lengths,
                            const std::vector<Tensor>& query_lengths,
                            const std::vector<double>& scale, double dropout_p,
                            const std::vector<Tensor>& seed) {
  const auto results = attention_forward_all(
      arguments_of(query, key, value, key_lengths, query_lengths, scale, dropout_p, seed),
      "cross_attention_pairs");
  std::vector<Tensor> tensors;
  for (const AttentionResults& result : results) tensors.push_back(result.out);
  for (const AttentionResults& result : results) tensors.push_back(result.row_sums);
  return tensors;
}

// The gradients of query, key and value of the first pair, then of the second, and so on.
std::vector<Tensor> backward(const std::vector<Tensor>& grad_out, const std::vector<Tensor>& query,
                             const std::vector<Tensor>& key, const std::vector<Tensor>& value,
                             const std::vector<Tensor>& out, const std::vector<Tensor>& row_sums,
                             const std::vector<Tensor>& key_lengths,
                             const std::vector<Tensor>& query_lengths,
                             const std::vector<double>& scale, double dropout_p,
                             const std::vector<Tensor>& seed) {
  STD_TORCH_CHECK(grad_out.size() == query.size() && out.size() == query.size() &&
                      row_sums.size() == query.size(),
                  "fusionkit_cuda::cross_attention_pairs_backward: grad_out, out and row_sums must "
                  "hold one entry a pair");
  std::vector<AttentionUpstream> upstream;
  for (size_t i = 0; i < query.size(); ++i) {
    upstream.push_back({grad_out[i], out[i], row_sums[i]});
  }
  constexpr int64_t kQueryKeyValue = 0b111;
  return attention_backward_all(
      upstream, arguments_of(query, key, value, key_lengths, query_lengths, scale, dropout_p, seed),
      kQueryKeyValue, "cross_attention_pairs_backward");
}

}  // namespace

FUSIONKIT_CUDA_OPERATORS(m) {
  m.impl("cross_attention_pairs", TORCH_BOX(&forward));
  m.impl("cross_attention_pairs_backward", TORCH_BOX(&backward));
}
