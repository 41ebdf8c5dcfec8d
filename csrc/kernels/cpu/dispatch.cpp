#include "dispatch.h"

#include <array>
#include <atomic>
#include <stdexcept>

namespace fusionkit {
namespace {

constexpr std::array<const char*, 3> kNames = {"base", "avx2", "avx512"};
constexpr int kCompiled = FUSIONKIT_X86 ? 3 : 1;

bool cpu_has(int level) {
#if FUSIONKIT_X86
  __builtin_cpu_init();
  if (level == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (level == 2) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return level == 0;
}

int best_level() {
  int level = kCompiled - 1;
  while (!cpu_has(level)) --level;
  return level;
}

std::atomic<int>& selected() {
  static std::atomic<int> level{best_level()};
  return level;
}

std::string join(const std::vector<std::string>& names) {
  std::string joined;
  for (const auto& name : names) joined += (joined.empty() ? "" : ", ") + name;
  return joined;
}

}  // namespace

std::vector<std::string> compiled_isa_levels() {
  return {kNames.begin(), kNames.begin() + kCompiled};
}

std::vector<std::string> supported_isa_levels() {
  std::vector<std::string> names;
  for (int level = 0; level < kCompiled; ++level) {
    if (cpu_has(level)) names.emplace_back(kNames[level]);
  }
  return names;
}

Isa current_isa() { return static_cast<Isa>(selected().load(std::memory_order_relaxed)); }

std::string current_isa_name() { return kNames[static_cast<int>(current_isa())]; }

void select_isa(const std::string& name) {
  if (name.empty()) {
    selected() = best_level();
    return;
  }
  for (int level = 0; level < kCompiled; ++level) {
    if (name != kNames[level]) continue;
    if (!cpu_has(level)) {
      throw std::invalid_argument("this CPU cannot run the instruction set '" + name +
                                  "'; it can run: " + join(supported_isa_levels()));
    }
    selected() = level;
    return;
  }
  throw std::invalid_argument("unknown instruction set '" + name +
                              "'; compiled are: " + join(compiled_isa_levels()));
}

}  // namespace fusionkit
