// torch.ops.fusionkit_cuda.cross_attention and its backward.
#include <optional>
#include <tuple>
#include <vector>

#include "attention_inputs.h"

namespace {

using namespace fusionkit::cuda;

std::tuple<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const std::optional<Tensor>& bias,
                                   const std::optional<Tensor>& key_lengths,
                                   const std::optional<Tensor>& query_lengths, double scale,
                                   double dropout_p, const std::optional<Tensor>& seed) {
  const auto results = attention_forward_all(
      {{query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed}},
      "cross_attention");
  return {results[0].out, results[0].row_sums};
}

std::vector<Tensor> backward(const Tensor& grad_out, const Tensor& query, const Tensor& key,
                             const Tensor& value, const Tensor& out, const Tensor& row_sums,
                             const std::optional<Tensor>& bias,
                             const std::optional<Tensor>& key_lengths,
                             const std::optional<Tensor>& query_lengths, double scale,
                             double dropout_p, const std::optional<Tensor>& seed, int64_t needs) {
  return attention_backward_all(
      {{grad_out, out, row_sums}},
      {{query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed}}, needs,
      "cross_attention_backward");
}

}  // namespace

FUSIONKIT_CUDA_OPERATORS(m) {
  m.impl("cross_attention", TORCH_BOX(&forward));
  m.impl("cross_attention_backward", TORCH_BOX(&backward));
}
