// How all threads compute: rounded to nearest, without traps, denormal numbers as zero.
//
// By themselves threads differ in that: TensorFlow's take denormal numbers as zero, Python's do
// not, and a new one does as its creator. Results would depend on who computed them, and denormal
// numbers are slow.
#ifndef OPTOPS_CORE_FLOATING_POINT_H_
#define OPTOPS_CORE_FLOATING_POINT_H_

#include <cstdint>

namespace optops {

#if defined(__x86_64__)

using FloatingPointState = uint32_t;
// Of MXCSR: no exception traps; results and operands that are denormal count as zero.
inline constexpr FloatingPointState kFloatingPoint = 0x1f80 | 0x8000 | 0x0040;
inline FloatingPointState floating_point() { return __builtin_ia32_stmxcsr(); }
inline void set_floating_point(FloatingPointState state) { __builtin_ia32_ldmxcsr(state); }

#elif defined(__aarch64__)

using FloatingPointState = uint64_t;
inline constexpr FloatingPointState kFloatingPoint = 1 << 24;  // of FPCR
inline FloatingPointState floating_point() {
  FloatingPointState state;
  asm volatile("mrs %0, fpcr" : "=r"(state));
  return state;
}
inline void set_floating_point(FloatingPointState state) {
  asm volatile("msr fpcr, %0" : : "r"(state));
}

#else

using FloatingPointState = int;
inline constexpr FloatingPointState kFloatingPoint = 0;
inline FloatingPointState floating_point() { return 0; }
inline void set_floating_point(FloatingPointState) {}

#endif

// Lets the calling thread compute so for as long as it lives.
class FloatingPoint {
 public:
  FloatingPoint() : before_(floating_point()) { set_floating_point(kFloatingPoint); }
  ~FloatingPoint() { set_floating_point(before_); }
  FloatingPoint(const FloatingPoint&) = delete;
  FloatingPoint& operator=(const FloatingPoint&) = delete;

 private:
  FloatingPointState before_;
};

}  // namespace optops

#endif  // OPTOPS_CORE_FLOATING_POINT_H_
