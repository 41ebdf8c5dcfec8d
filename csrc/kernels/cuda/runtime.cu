#include "device.cuh"
#include "runtime.h"

namespace fk {

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int device_count(int& error) {
  int count = 0;
  error = cudaGetDeviceCount(&count);
  return error == cudaSuccess ? count : 0;
}

}  // namespace fk
