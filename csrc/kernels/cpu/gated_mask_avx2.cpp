#include "gated_mask.h"
#include "isa_headers.h"

#if FUSIONKIT_X86
#include "isa_avx2.h"
// The body comes after the level.
#include "gated_mask_impl.h"
#include "isa_end.h"
#endif
