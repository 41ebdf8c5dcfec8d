// fusionkit._C: importing it registers the operators; its functions tell how it was built and which
// instruction set the CPU kernels use.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../kernels/cpu/dispatch.h"

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

py::dict build_info() {
  py::dict info;
  info["compiler"] = compiler();
  info["isa_levels"] = fusionkit::compiled_isa_levels();
  info["cuda_architectures"] = std::vector<std::string>{};
  info["torch_target"] = torch_target();
  return info;
}

std::vector<std::string> kernels() {
  return {"cross_attention",
          "cross_attention_backward",
          "cross_attention_pairs",
          "cross_attention_pairs_backward",
          "dropout",
          "gated_mask",
          "gated_mask_backward",
          "lstm",
          "lstm_backward"};
}

void set_isa(const std::optional<std::string>& name) { fusionkit::select_isa(name.value_or("")); }

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled operators of FusionKit, registered as torch.ops.fusionkit.*";
  m.def("build_info", &build_info);
  m.def("kernels", &kernels);
  m.def("isa", &fusionkit::current_isa_name);
  m.def("isa_levels", &fusionkit::supported_isa_levels);
  m.def("set_isa", &set_isa, py::arg("name"));
}
