// Which instruction sets this processor can run.
#ifndef OPTOPS_CORE_CPU_INFO_H_
#define OPTOPS_CORE_CPU_INFO_H_

namespace optops {

enum class Isa { kGeneric, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };
inline constexpr int kIsaCount = 6;

// Returns the name in messages and in OPTOPS_ISA.
const char* isa_name(Isa isa);

// Returns whether the processor, and the operating system with it, can run an instruction set.
bool can_run(Isa isa);

// Asks the operating system for what an instruction set needs that can run; returns whether it is
// given. For good: from then on signal handlers need larger stacks.
bool acquire(Isa isa);

}  // namespace optops

#endif  // OPTOPS_CORE_CPU_INFO_H_
