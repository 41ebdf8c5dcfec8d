// Where the blocks and threads of the emulator keep what they have: shared memory full of NaN, and
// stacks.
#pragma once

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// What a kernel asks of its place; set whenever another thread goes on.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace fk::emulated {

constexpr size_t kStack = 256 << 10;
constexpr size_t kGuard = 1024;
constexpr unsigned char kPoison = 0xFF;

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "CUDA on the CPU: %s\n", what.c_str());
  std::fflush(stderr);
  std::abort();
}

struct Block {
  dim3 index;
  std::vector<unsigned char> memory;  // the dynamic shared memory between two guards
  size_t shared_bytes = 0;

  void poison(size_t bytes) {
    shared_bytes = bytes;
    memory.assign(kGuard + bytes + kGuard + 128, kPoison);
  }
  unsigned char* shared() {
    const auto start = reinterpret_cast<uintptr_t>(memory.data()) + kGuard;
    return reinterpret_cast<unsigned char*>((start + 127) / 128 * 128);
  }
  std::string name() const {
    return "block (" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
           std::to_string(index.z) + ")";
  }
};

inline void check_guards(Block& block) {
  const unsigned char* memory = block.shared();
  const auto poisoned = [](unsigned char byte) { return byte == kPoison; };
  const bool before = !std::all_of(memory - kGuard, memory, poisoned);
  const unsigned char* end = memory + block.shared_bytes;
  if (before || !std::all_of(end, end + kGuard, poisoned)) {
    fail(block.name() + " wrote " + (before ? "before" : "beyond") + " its " +
         std::to_string(block.shared_bytes) + " bytes of dynamic shared memory");
  }
}

// Stacks that are mapped once and used again.
class Stacks {
 public:
  unsigned char* at(size_t i) {
    while (stacks_.size() <= i) {
      void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (stack == MAP_FAILED) fail("no memory for the stacks of the threads");
      // The lowest page is left out, so that an overflow ends the process.
      mprotect(stack, 4096, PROT_NONE);
      stacks_.push_back(static_cast<unsigned char*>(stack));
    }
    return stacks_[i];
  }

 private:
  std::vector<unsigned char*> stacks_;
};

// __shared__ variables are thread-local ones, because those of a library lie together, whichever
// function or template declares them: this fills them all. The emulator has none of its own.
inline void poison_static_shared() {
  static const auto find = [](dl_phdr_info* info, size_t, void*) {
    bool is_this_library = false;
    const ElfW(Phdr)* local = nullptr;
    const auto here = reinterpret_cast<ElfW(Addr)>(&threadIdx);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr) & part = info->dlpi_phdr[i];
      const ElfW(Addr) start = info->dlpi_addr + part.p_vaddr;
      if (part.p_type == PT_LOAD && here >= start && here < start + part.p_memsz) {
        is_this_library = true;
      }
      if (part.p_type == PT_TLS) local = &part;
    }
    if (!is_this_library) return 0;
    if (local != nullptr && info->dlpi_tls_data != nullptr) {
      std::memset(info->dlpi_tls_data, kPoison, local->p_memsz);
    }
    return 1;
  };
  dl_iterate_phdr(find, nullptr);
}

}  // namespace fk::emulated
