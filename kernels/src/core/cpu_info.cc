#include "core/cpu_info.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace optops {

const char* isa_name(Isa isa) {
  static constexpr const char* kNames[kIsaCount] = {"generic",     "avx2",        "avx512",
                                                    "avx512_vnni", "avx512_bf16", "amx"};
  return kNames[static_cast<int>(isa)];
}

#if defined(__x86_64__)

namespace {

// Linux saves the tiles of AMX only for who has asked; numbers of asm/prctl.h of newer kernels.
constexpr long kGetSupported = 0x1021, kRequestPermission = 0x1023, kTileData = 18;

// Whether the processor multiplies tiles of int8 and bfloat16, and the operating system saves them.
bool has_tiles() {
  constexpr unsigned kBfloat16 = 1U << 22, kTiles = 1U << 24, kInt8 = 1U << 25;
  constexpr unsigned kAll = kBfloat16 | kTiles | kInt8;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAll) != kAll) return false;
  unsigned long supported = 0;
  return syscall(SYS_arch_prctl, kGetSupported, &supported) == 0 && (supported >> kTileData & 1);
}

}  // namespace

bool can_run(Isa isa) {
  // The compiler's own detection also asks the operating system whether it saves the wide
  // registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  switch (isa) {
    case Isa::kGeneric:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx512Vnni:
      return vnni;
    case Isa::kAvx512Bf16:
      return vnni && __builtin_cpu_supports("avx512bf16");
    case Isa::kAmx:
      return vnni && __builtin_cpu_supports("avx512bf16") && has_tiles();
  }
  return false;
}

bool acquire(Isa isa) {
  return isa != Isa::kAmx || syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#else

bool can_run(Isa isa) { return isa == Isa::kGeneric; }

bool acquire(Isa) { return true; }

#endif

}  // namespace optops
