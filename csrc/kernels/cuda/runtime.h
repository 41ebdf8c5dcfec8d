// What the host asks of the CUDA runtime, without its headers.
#pragma once

typedef struct CUstream_st* cudaStream_t;

namespace fk {

// What an error that a launch returned means.
const char* error_text(int error);

// How many devices there are; why there are none is told by `error`, 0 otherwise.
int device_count(int& error);

}  // namespace fk
