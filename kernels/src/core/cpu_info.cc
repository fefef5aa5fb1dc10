#include "core/cpu_info.h"

namespace optops {

const char* isa_name(Isa isa) {
  static constexpr const char* kNames[kIsaCount] = {"generic", "avx2", "avx512", "avx512_vnni",
                                                    "avx512_bf16"};
  return kNames[static_cast<int>(isa)];
}

#if defined(__x86_64__)

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
  }
  return false;
}

#else

bool can_run(Isa isa) { return isa == Isa::kGeneric; }

#endif

}  // namespace optops
