// fusionkit._C: importing it registers the operators; its functions tell how it was built and which
// instruction set the CPU kernels use.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "../kernels/cpu/dispatch.h"
#ifdef FUSIONKIT_CUDA_ARCHITECTURES
#include "../kernels/cuda/runtime.h"
#endif

namespace py = pybind11;

namespace {

std::string compiler() {
#if defined(__clang__)
  return __VERSION__;
#elif defined(__GNUC__)
  return std::string("gcc ") + __VERSION__;
#else
  return "unknown";
#endif
}

std::string torch_target() {
  constexpr uint64_t version = TORCH_TARGET_VERSION;
  return std::to_string(version >> 56 & 0xFF) + "." + std::to_string(version >> 48 & 0xFF);
}

// Compute capabilities such as 90; none without the CUDA kernels.
std::vector<std::string> cuda_architectures() {
  std::vector<std::string> found;
#ifdef FUSIONKIT_CUDA_ARCHITECTURES
  std::istringstream list(FUSIONKIT_CUDA_ARCHITECTURES);
  for (std::string one; std::getline(list, one, ';');) found.push_back(one);
#endif
  return found;
}

// How many devices the CUDA kernels can see, and why there are none.
std::pair<int, std::string> cuda_devices() {
#ifdef FUSIONKIT_CUDA_ARCHITECTURES
  int error = 0;
  const int count = fk::device_count(error);
  return {count, error == 0 ? "" : fk::error_text(error)};
#else
  return {0, "built without CUDA kernels"};
#endif
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = compiler();
  info["isa_levels"] = fusionkit::compiled_isa_levels();
  info["cuda_architectures"] = cuda_architectures();
  info["torch_target"] = torch_target();
  return info;
}

// The operators of the namespaces `fusionkit` (CPU) and `fusionkit_cuda`, with their names in full.
std::vector<std::string> kernels() {
  std::vector<std::string> found;
  for (const char* name : {"cross_attention", "cross_attention_backward", "cross_attention_pairs",
                           "cross_attention_pairs_backward", "dropout", "gated_mask",
                           "gated_mask_backward", "lstm", "lstm_backward"}) {
    found.push_back(std::string("fusionkit::") + name);
  }
#ifdef FUSIONKIT_CUDA_ARCHITECTURES
  for (const char* name : {"cross_attention", "cross_attention_backward", "cross_attention_pairs",
                           "cross_attention_pairs_backward", "gated_mask", "gated_mask_backward",
                           "lstm_steps", "lstm_steps_backward"}) {
    found.push_back(std::string("fusionkit_cuda::") + name);
  }
#endif
  return found;
}

void set_isa(const std::optional<std::string>& name) { fusionkit::select_isa(name.value_or("")); }

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled operators of FusionKit, torch.ops.fusionkit.* and torch.ops.fusionkit_cuda.*";
  m.def("build_info", &build_info);
  m.def("kernels", &kernels);
  m.def("cuda_devices", &cuda_devices);
  m.def("isa", &fusionkit::current_isa_name);
  m.def("isa_levels", &fusionkit::supported_isa_levels);
  m.def("set_isa", &set_isa, py::arg("name"));
}
