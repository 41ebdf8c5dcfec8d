#include "gated_mask.h"
#include "isa_base.h"
// The body comes after the level.
#include "gated_mask_impl.h"
