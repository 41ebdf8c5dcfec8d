#include "gated_mask.cuh"

namespace fusionkit::cuda {

namespace {

bool is_aligned(const void* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

template <class T>
bool is_flat(const GatedMaskTensor& tensor, const GatedMaskInputs& in) {
  return tensor.time_stride == in.dim && tensor.batch_stride == in.time * in.dim &&
         is_aligned(tensor.data, 16);
}

template <class T>
bool has_aligned_rows(const GatedMaskTensor& tensor, const GatedMaskInputs& in) {
  return in.dim % 4 == 0 && tensor.time_stride % 4 == 0 && tensor.batch_stride % 4 == 0 &&
         is_aligned(tensor.data, 4 * sizeof(T));
}

// Whether all tensors that are read have a property. What is written is torch's own memory.
template <class Property>
bool all_tensors(const GatedMaskCall& call, Property&& has) {
  const GatedMaskInputs& in = call.in;
  bool all = has(in.x, in) && (call.grad_out.data == nullptr || has(call.grad_out, in));
  for (int i = 0; i < in.gate_count; ++i) all = all && has(in.gates[i], in);
  return all;
}

GatedMaskCall make_call(const GatedMaskInputs& in) {
  GatedMaskCall call{};
  call.in = in;
  call.threshold = fk::philox_threshold(in.dropout_p);
  call.share = static_cast<float>(1.0 / in.gate_count / (1.0 - in.dropout_p));
  return call;
}

template <class T, Access access>
int launch(GatedMaskCall& call, bool is_backward, cudaStream_t stream) {
  constexpr int N = kGroup<T, access>;
  const GatedMaskInputs& in = call.in;
  const int64_t rows = in.batch * in.time;
  call.groups = access == Access::flat ? (rows * in.dim + N - 1) / N : rows * ((in.dim + 3) / 4);
  const auto blocks = static_cast<unsigned>((call.groups + kMaskThreads - 1) / kMaskThreads);
  return fk::launch(
      is_backward ? &gated_mask_backward_kernel<T, access> : &gated_mask_forward_kernel<T, access>,
      blocks, kMaskThreads, 0, stream, call);
}

int launch(GatedMaskCall& call, bool is_backward, cudaStream_t stream) {
  return fk::for_dtype(call.in.dtype, [&](auto number) {
    using T = decltype(number);
    // Four columns of the generator must not be those of two rows.
    const bool may_be_flat = call.in.dropout_p == 0.0 || call.in.dim % 4 == 0;
    if (may_be_flat && all_tensors(call, is_flat<T>)) {
      return launch<T, Access::flat>(call, is_backward, stream);
    }
    if (all_tensors(call, has_aligned_rows<T>)) {
      return launch<T, Access::rows>(call, is_backward, stream);
    }
    return launch<T, Access::single>(call, is_backward, stream);
  });
}

}  // namespace

int gated_mask_forward(const GatedMaskInputs& in, void* out, cudaStream_t stream) {
  GatedMaskCall call = make_call(in);
  call.out = out;
  return launch(call, false, stream);
}

int gated_mask_backward(const GatedMaskInputs& in, const GatedMaskTensor& grad_out,
                        const GatedMaskGradients& grads, cudaStream_t stream) {
  GatedMaskCall call = make_call(in);
  call.grad_out = grad_out;
  call.grads = grads;
  return launch(call, true, stream);
}

}  // namespace fusionkit::cuda
