// Which instruction set the kernels use: the best of this CPU, or the one that was asked for.
#pragma once

#include <string>
#include <vector>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FUSIONKIT_X86 1
#else
#define FUSIONKIT_X86 0
#endif

namespace fusionkit {

enum class Isa { base, avx2, avx512 };

// Names of the levels: those compiled in, and those of them that this CPU can run; best last.
std::vector<std::string> compiled_isa_levels();
std::vector<std::string> supported_isa_levels();

Isa current_isa();
std::string current_isa_name();

// An empty name means the best level of this CPU. Throws std::invalid_argument for a level that is
// unknown or that this CPU lacks. Takes effect on calls that start later.
void select_isa(const std::string& name);

template <class Kernel>
Kernel* pick(Kernel* base, Kernel* avx2, Kernel* avx512) {
  switch (current_isa()) {
    case Isa::avx512:
      return avx512;
    case Isa::avx2:
      return avx2;
    default:
      return base;
  }
}

}  // namespace fusionkit

// The variant of a kernel to call; the kernel is declared in namespaces base, avx2 and avx512.
#if FUSIONKIT_X86
#define FUSIONKIT_DISPATCH(kernel)                                        \
  ::fusionkit::pick(::fusionkit::base::kernel, ::fusionkit::avx2::kernel, \
                    ::fusionkit::avx512::kernel)
#else
#define FUSIONKIT_DISPATCH(kernel) (&::fusionkit::base::kernel)
#endif
