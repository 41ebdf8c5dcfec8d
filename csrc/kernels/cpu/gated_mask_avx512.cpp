// Shared headers come before the target: their inline functions must stay runnable on any CPU,
// whichever copy the linker keeps.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "dispatch.h"
#include "gated_mask.h"

#if FUSIONKIT_X86

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#define FUSIONKIT_ISA avx512
#include "gated_mask_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // FUSIONKIT_X86
