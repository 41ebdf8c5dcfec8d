#include "isa_headers.h"
#include "lstm.h"

#if FUSIONKIT_X86
#include "isa_avx2.h"
// The body comes after the level.
#include "isa_end.h"
#include "lstm_impl.h"
#endif
