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

// Adds up each of kWidth vectors; lane i of the result is the sum of sums[i]. Halves the vectors in
// each round: lanes with the bit `Half` set go on with the second of a pair.
template <int Half>
static inline Floats sums_of(Floats (&sums)[kWidth]) {
  if constexpr (Half > 0) {
    Ints stay, cross;
#pragma GCC unroll 16
    for (int lane = 0; lane < kWidth; ++lane) {
      const int second = lane & Half ? kWidth : 0;
      stay[lane] = lane + second;
      cross[lane] = (lane ^ Half) + second;
    }
#pragma GCC unroll 8
    for (int i = 0; i < Half; ++i) {
      sums[i] = __builtin_shuffle(sums[i], sums[i + Half], stay) +
                __builtin_shuffle(sums[i], sums[i + Half], cross);
    }
    return sums_of<Half / 2>(sums);
  } else {
    return sums[0];
  }
}

static inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

static inline float largest_of(Floats value) {
  float most = value[0];
  for (int lane = 1; lane < kWidth; ++lane) most = value[lane] > most ? value[lane] : most;
  return most;
}

// Loads the first `count` of a vector, which may be none; the others are zero.
static inline Floats load_first(const float* from, int64_t count) {
  if (count >= kWidth) return load<Floats>(from);
  Floats values = {};
  if (count > 0) memcpy(&values, from, static_cast<size_t>(count) * sizeof(float));
  return values;
}

// Exchanges rows and columns, in blocks of half the size in each round.
template <int Half>
static inline void transpose(Words (&rows)[kWidth]) {
  if constexpr (Half > 0) {
    Words upper, lower;
#pragma GCC unroll 16
    for (int lane = 0; lane < kWidth; ++lane) {
      upper[lane] = static_cast<uint32_t>(lane & Half ? lane - Half + kWidth : lane);
      lower[lane] = static_cast<uint32_t>(lane & Half ? lane + kWidth : lane + Half);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      if (i & Half) continue;
      const Words above = rows[i], below = rows[i + Half];
      rows[i] = __builtin_shuffle(above, below, upper);
      rows[i + Half] = __builtin_shuffle(above, below, lower);
    }
    transpose<Half / 2>(rows);
  }
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

// 2^x within 8e-5 of it, a twentieth of what bfloat16 rounds, for x <= 127; from below -126 on what
// it is there. The minimax polynomial on half a unit around an integer.
static inline Floats power_of_two(Floats x) {
  constexpr float kBiasedRounder = kRounder + 127.0F;  // leaves the exponent in the lowest bits
  const Floats low = spread(-126.0F);
  x = x < low ? low : x;
  const Floats biased = x + kBiasedRounder;
  const Floats r = x - (biased - kBiasedRounder);
  Floats p = spread(5.5171669e-2F);
  p = p * r + 0.24261113F;
  p = p * r + 0.69326097F;
  p = p * r + 0.99992806F;
  const Ints power = load<Ints>(&biased) << 23;
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
