// Vectors as wide as the instruction set that this file is compiled for, and the functions on them.
//
// The compiler's own vector types: one text for every processor. Included once per instruction set,
// inside a namespace of its own; nothing here may come from std::, for the linker could keep one
// instruction set's copy for all.
#ifndef OPTOPS_NAMESPACE
#error "included by the file of one instruction set, which names its namespace"
#endif

#include <stdint.h>
#include <string.h>

namespace optops::OPTOPS_NAMESPACE {

#if defined(__AVX512F__)
inline constexpr int kWidth = 16;
#elif defined(__AVX2__)
inline constexpr int kWidth = 8;
#else
inline constexpr int kWidth = 4;
#endif

typedef float Floats __attribute__((vector_size(kWidth * 4)));
typedef int32_t Ints __attribute__((vector_size(kWidth * 4)));
typedef uint32_t Words __attribute__((vector_size(kWidth * 4)));

// One load: of `Floats{} + value` the compiler makes an addition, too, for the sake of -0.
static inline Floats spread(float value) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(value);
#elif defined(__AVX2__)
  return _mm256_set1_ps(value);
#else
  return Floats{value, value, value, value};
#endif
}

template <typename Vector>
static inline Vector load(const void* from) {
  Vector vector;
  memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <typename Vector>
static inline void store(void* to, Vector vector) {
  memcpy(to, &vector, sizeof(vector));
}

static inline float magnitude(float value) { return __builtin_fabsf(value); }

// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, halves to even.
inline constexpr float kRounder = 12582912.0F;

// e^x within 2 units in the last place for |x| <= 87; beyond, what it is there. Cody and Waite's
// reduction, and the polynomial of Cephes' expf (Moshier 1992).
static inline Floats exponential(Floats x) {
  const Floats low = spread(-87.0F), high = spread(88.0F);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Floats n = (x * 1.44269504F + kRounder) - kRounder;
  const Floats r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  Floats p = spread(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  return p * load<Floats>(&power);
}

// tanh(x) = 1 - 2 / (e^2x + 1), which is within 1e-7 of it: near zero too, in absolute terms.
static inline Floats hyperbolic_tangent(Floats x) {
  return 1.0F - 2.0F / (exponential(2.0F * x) + 1.0F);
}

// erf(x) within 2e-7: x times the minimax polynomial of degree 14 in s = 2 (x / 3.7)^2 - 1. Beyond
// 3.7 erf is 1 within that. No division and no exponential, which cost three times as much.
static inline Floats error_function(Floats x) {
  const Floats high = spread(3.7F), low = spread(-3.7F);
  x = x > high ? high : x;
  x = x < low ? low : x;
  const Floats s = x * x * 0.14609204F - 1.0F;
  Floats p = spread(6.398399e-4F);
  p = p * s - 1.7600667e-3F;
  p = p * s + 1.8160117e-3F;
  p = p * s - 2.8813635e-3F;
  p = p * s + 7.950363e-3F;
  p = p * s - 1.5029111e-2F;
  p = p * s + 2.3406748e-2F;
  p = p * s - 3.5721842e-2F;
  p = p * s + 5.204215e-2F;
  p = p * s - 7.056217e-2F;
  p = p * s + 9.053742e-2F;
  p = p * s - 0.11263163F;
  p = p * s + 0.14079456F;
  p = p * s - 0.19046816F;
  p = p * s + 0.38213748F;
  return x * p;
}

}  // namespace optops::OPTOPS_NAMESPACE
