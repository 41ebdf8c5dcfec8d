// What kernel bodies include from the standard library. It has to come before the target of a level
// is set: inline functions must stay runnable on any CPU, whichever copy the linker keeps.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "dispatch.h"

#if FUSIONKIT_X86
#if defined(__GNUC__) && !defined(__clang__)
// Some of GCC's own intrinsics begin with undefined registers, and it warns of them.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif
