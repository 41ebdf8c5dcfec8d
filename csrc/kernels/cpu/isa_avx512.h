// Opens the body of a kernel at the level of AVX-512; isa_end.h closes it.
#include "isa_headers.h"

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#define FUSIONKIT_ISA avx512
#define FUSIONKIT_LANES 16
