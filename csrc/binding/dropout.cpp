// torch.ops.fusionkit.dropout: checks, output and threads around the kernel.
#include "../kernels/cpu/dropout.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>

#include "../kernels/cpu/dispatch.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor dropout(const Tensor& x, double p, const Tensor& seed) {
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float && x.is_cpu(),
                  "fusionkit::dropout: x must be float32 on the CPU");
  STD_TORCH_CHECK(x.dim() >= 1, "fusionkit::dropout: x must have at least one axis");
  STD_TORCH_CHECK(p >= 0.0 && p < 1.0, "fusionkit::dropout: p must be in [0, 1), got ", p);
  STD_TORCH_CHECK(seed.scalar_type() == ScalarType::Long && seed.is_cpu() && seed.numel() == 1,
                  "fusionkit::dropout: seed must be one int64 on the CPU");
  const Tensor dense = torch::stable::contiguous(x);
  Tensor out = torch::stable::new_empty(x, x.sizes());
  if (x.numel() == 0) return out;
  const int64_t columns = x.size(x.dim() - 1), rows = x.numel() / columns;
  STD_TORCH_CHECK(rows <= int64_t{UINT32_MAX} + 1, "fusionkit::dropout: more than 2**32 rows, got ",
                  rows);
  const float* from = dense.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const auto key = static_cast<uint64_t>(*seed.const_data_ptr<int64_t>());
  const auto kernel = FUSIONKIT_DISPATCH(dropout);
  // As torch: threads get at least 32768 elements. Threads begin at whole groups of four rows.
  const int64_t grain = std::max<int64_t>(1, 32768 / columns / 4);
  torch::stable::parallel_for(0, (rows + 3) / 4, grain, [&](int64_t begin, int64_t end) {
    kernel(from, to, columns, p, key, 4 * begin, std::min(4 * end, rows));
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusionkit, m) {
  m.def("dropout(Tensor x, float p, Tensor seed) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fusionkit, CPU, m) { m.impl("dropout", TORCH_BOX(&dropout)); }
