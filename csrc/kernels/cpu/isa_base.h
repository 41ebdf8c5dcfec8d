// Opens the body of a kernel at the level that every CPU of the architecture can run.
#include "isa_headers.h"

#define FUSIONKIT_ISA base
#define FUSIONKIT_LANES 4
