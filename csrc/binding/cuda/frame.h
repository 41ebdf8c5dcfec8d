// What the bindings of all CUDA operators share: the device and stream that a call runs on, checks
// of its tensors, and memory from torch. Under FUSIONKIT_CUDA_ON_CPU they bind tensors on the CPU,
// for the emulator of the tests.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "../../kernels/cuda/dtype.h"
#include "../../kernels/cuda/runtime.h"

// FUSIONKIT_CUDA_OPERATORS(m) { m.impl(...); } puts kernels behind torch.ops.fusionkit_cuda.*,
// whose schemas are defined in Python (fusionkit.ops.cuda_runtime.define).
#ifdef FUSIONKIT_CUDA_ON_CPU
#define FUSIONKIT_CUDA_OPERATORS(m) STABLE_TORCH_LIBRARY_IMPL(fusionkit_cuda, CPU, m)
#else
#define FUSIONKIT_CUDA_OPERATORS(m) STABLE_TORCH_LIBRARY_IMPL(fusionkit_cuda, CUDA, m)
#endif

namespace fusionkit::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Of a CUDA device; the same for all tensors on the CPU.
inline int32_t device_index(const Tensor& tensor) {
  int32_t index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor.get(), &index));
  return index;
}

#ifdef FUSIONKIT_CUDA_ON_CPU

inline bool on_device(const Tensor& tensor) { return tensor.is_cpu(); }

// Makes a tensor's device the current one while it lives.
class Frame {
 public:
  explicit Frame(const Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
};

#else

inline bool on_device(const Tensor& tensor) { return tensor.is_cuda(); }

// Torch's current stream on a device. The stable ABI gives its handle from torch 2.13 on only, and
// libtorch_cuda has this function in all of them; a torch without CUDA never comes here.
inline cudaStream_t current_stream(int32_t device) {
  using CurrentStream = AOTITorchError (*)(int32_t, void**);
  static const auto get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* found =
        dlsym(library != nullptr ? library : RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<CurrentStream>(found);
  }();
  STD_TORCH_CHECK(get != nullptr, "fusionkit: libtorch_cuda.so does not tell its current stream");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(get(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

// Makes a tensor's device the current one while it lives.
class Frame {
 public:
  explicit Frame(const Tensor& tensor)
      : guard_(device_index(tensor)), stream_(current_stream(device_index(tensor))) {}
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

#endif

// Raises where a launch did not succeed.
inline void check_launch(int error, const char* op) {
  STD_TORCH_CHECK(error == 0, "fusionkit_cuda::", op,
                  ": the kernel was not started: ", fk::error_text(error));
}

inline fk::Dtype dtype_of(const Tensor& tensor, const char* op, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return fk::Dtype::float32;
    case ScalarType::Half:
      return fk::Dtype::float16;
    case ScalarType::BFloat16:
      return fk::Dtype::bfloat16;
    default:
      STD_TORCH_CHECK(false, "fusionkit_cuda::", op, ": ", name,
                      " must be float32, float16 or bfloat16");
      return fk::Dtype::float32;
  }
}

inline bool same_device(const Tensor& a, const Tensor& b) {
  return on_device(a) && on_device(b) && device_index(a) == device_index(b);
}

// `count` int64 numbers on the device of `like`, lengths or a seed; null where there are none.
// Copies of what is not contiguous go to `copies`, which has to live until the launch.
inline const int64_t* integers(const std::optional<Tensor>& tensor, int64_t count,
                               const Tensor& like, std::vector<Tensor>& copies, const char* op,
                               const char* name) {
  if (!tensor.has_value()) return nullptr;
  STD_TORCH_CHECK(tensor->scalar_type() == ScalarType::Long && same_device(*tensor, like),
                  "fusionkit_cuda::", op, ": ", name, " must be int64 on the device of the inputs");
  STD_TORCH_CHECK(tensor->numel() == count, "fusionkit_cuda::", op, ": ", name, " must hold ",
                  count, " numbers, got ", tensor->numel());
  if (tensor->is_contiguous()) return tensor->const_data_ptr<int64_t>();
  return copies.emplace_back(torch::stable::contiguous(*tensor)).const_data_ptr<int64_t>();
}

inline void check_dropout(double p, const std::optional<Tensor>& seed, const char* op) {
  STD_TORCH_CHECK(p >= 0.0 && p < 1.0, "fusionkit_cuda::", op,
                  ": dropout_p must be in [0, 1), got ", p);
  STD_TORCH_CHECK(p == 0.0 || seed.has_value(), "fusionkit_cuda::", op,
                  ": seed is required when dropout_p > 0");
}

// New contiguous memory on the device of `like`, of a dtype that aoti_torch_dtype_*() gives.
inline Tensor empty(const std::vector<int64_t>& sizes, int32_t dtype, const Tensor& like) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t axis = sizes.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * sizes[axis];
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(),
                                                  strides.data(), dtype, device_type,
                                                  like.is_cpu() ? 0 : device_index(like), &handle));
  return Tensor(handle);
}

// The same with the dtype of `like`.
inline Tensor empty(const std::vector<int64_t>& sizes, const Tensor& like) {
  int32_t dtype = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  return empty(sizes, dtype, like);
}

}  // namespace fusionkit::cuda
