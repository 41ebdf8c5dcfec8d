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
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FUSIONKIT_ISA avx2
#include "gated_mask_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // FUSIONKIT_X86
