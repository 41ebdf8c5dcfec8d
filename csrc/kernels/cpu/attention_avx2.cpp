#include "attention.h"
#include "isa_headers.h"

#if FUSIONKIT_X86
#include "isa_avx2.h"
// The bodies come after the level.
#include "attention_backward_impl.h"
#include "attention_forward_impl.h"
#include "isa_end.h"
#endif
