#define FUSIONKIT_ISA base
#include "gated_mask_impl.h"
