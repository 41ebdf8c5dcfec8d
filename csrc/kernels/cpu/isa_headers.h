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
#include <immintrin.h>
#endif
