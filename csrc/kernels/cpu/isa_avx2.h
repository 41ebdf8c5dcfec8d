// Opens the body of a kernel at the level of AVX2 with FMA; isa_end.h closes it.
#include "isa_headers.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FUSIONKIT_ISA avx2
#define FUSIONKIT_LANES 8
