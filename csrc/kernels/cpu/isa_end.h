// Closes what isa_avx2.h or isa_avx512.h opened.
#if defined(__clang__)
#pragma clang attribute pop
#endif
