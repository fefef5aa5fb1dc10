// Products of packed weights: a tile of up to six rows and as many columns of a panel as registers
// hold stays there while the inputs go by.
//
// Tiles: with 32 registers of 16 floats, 6 rows x 4 registers of a panel leave 8 for weights and
// the row's value; with 16 registers, 6 rows x 2 registers. Each weight that is loaded serves six
// rows, and the sums never leave the registers. Every row adds up in the same order whatever the
// tile, so a row's result does not depend on its neighbours.
#include "cpu/kernel_table.h"
#include "pack/bfloat16.h"

namespace optops::OPTOPS_NAMESPACE {

inline constexpr int kPanelWidth = 64;
inline constexpr int kMostRows = 6;  // of a tile; a precision's own number is `kRows`
#if defined(__AVX512F__)
inline constexpr int kVectors = 4;
#else
inline constexpr int kVectors = 2;
#endif
inline constexpr int kTileWidth = kVectors * kWidth;
inline constexpr int64_t kGroupStride =
    kPanelWidth * 4;  // bytes from one group of inputs to the next
// How far ahead weights are asked for where they are read once: the distance that hides the latency
// of memory.
inline constexpr int64_t kPrefetch = 10240;
inline constexpr int64_t kLine = 64;  // bytes that are asked for at once
inline constexpr int kTileLines = kTileWidth * 4 > kLine ? kTileWidth * 4 / kLine : 1;

// What a tile asks memory for while it computes: nothing, its own weights further on, or one line
// of each group of the next tile's.
enum class Ahead { kNothing, kOwn, kNext };

// How the groups of one precision are multiplied and added up. `kUnsigned`: activations are taken
// as a + 128, and the sums start at what that adds too much. `kUnit`: by AMX where it is.
struct Fp32 {
  using Sum = Floats;
  using Input = float;
  static constexpr int kGroup = 1;
  static constexpr int kRows = kMostRows;
  static constexpr bool kInteger = false, kUnsigned = false, kUnit = false;
  using Activation = Floats;
  static inline Activation activation(const float* x) { return spread(*x); }
  static inline void add(Sum& sum, const uint8_t* weights, const Activation& a) {
    sum += a * load<Floats>(weights);
  }
};

#if defined(__AVX512BF16__)
struct Bf16 {
  using Sum = Floats;
  using Input = uint16_t;
  static constexpr int kGroup = 2;
  static constexpr int kRows = kMostRows;
  static constexpr bool kInteger = false, kUnsigned = false, kUnit = true;
  using Activation = __m512i;
  static inline Activation activation(const uint16_t* x) {
    int32_t pair;
    memcpy(&pair, x, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static inline void add(Sum& sum, const uint8_t* weights, const Activation& a) {
    asm("vdpbf16ps %1, %2, %0"
        : "+v"(sum)
        : "v"(load<__m512i>(weights)), "v"(a));  // as for int8 below
  }
  // Rounds values, those of `first` before those of `second`.
  static inline Words rounded(Floats first, Floats second) {
    return (Words)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  }
  static inline void add_square(Floats& sum, const Words& pairs) {
    sum = (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pairs, (__m512bh)pairs);
  }
};
#else
struct Bf16 {
  using Sum = Floats;
  using Input = uint16_t;
  static constexpr int kGroup = 2;
  static constexpr int kRows = kMostRows;
  static constexpr bool kInteger = false, kUnsigned = false;
  struct Activation {
    Floats even, odd;
  };
  static inline float widen(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
  }
  static inline Activation activation(const uint16_t* x) {
    return {spread(widen(x[0])), spread(widen(x[1]))};
  }
  static inline void add(Sum& sum, const uint8_t* weights, const Activation& a) {
    const Words pairs = load<Words>(weights), even = pairs << 16, odd = pairs & 0xffff0000U;
    sum += a.even * load<Floats>(&even);
    sum += a.odd * load<Floats>(&odd);
  }
};
#endif

#if defined(__AVX512VNNI__)
struct Int8 {
  using Sum = Ints;
  using Input = uint8_t;
  static constexpr int kGroup = 4;
  static constexpr int kRows = kMostRows;
  static constexpr bool kInteger = true, kUnsigned = true, kUnit = true;
  using Activation = __m512i;
  static inline Activation activation(const uint8_t* x) {
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
  }
  static inline void add(Sum& sum, const uint8_t* weights, const Activation& a) {
    // gcc 12 copies registers around the intrinsic, which halves the speed.
    asm("vpdpbusd %1, %2, %0" : "+v"(sum) : "v"(load<Ints>(weights)), "v"(a));
  }
};
#elif defined(__AVX2__)
// Two s8 products in s16 may not fit 16 bits, so bytes are widened first; sums of two s16 products
// are exact. Activations are written wide, once for all columns, the even ones of a group before
// the odd ones, as shifts leave the weights.
struct Int8 {
  using Sum = Ints;
  using Input = int16_t;
  static constexpr int kGroup = 4;
  static constexpr int kRows = 4;  // leaves registers for the widened weights
  static constexpr bool kInteger = true, kUnsigned = false;
#if defined(__AVX512BW__)
  using Register = __m512i;
  static inline Register low(Register v) { return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8); }
  static inline Register high(Register v) { return _mm512_srai_epi16(v, 8); }
  static inline Register multiply(Register a, Register b) { return _mm512_madd_epi16(a, b); }
  static inline Register two(int32_t pair) { return _mm512_set1_epi32(pair); }
#else
  using Register = __m256i;
  static inline Register low(Register v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
  static inline Register high(Register v) { return _mm256_srai_epi16(v, 8); }
  static inline Register multiply(Register a, Register b) { return _mm256_madd_epi16(a, b); }
  static inline Register two(int32_t pair) { return _mm256_set1_epi32(pair); }
#endif
  struct Activation {
    Register low, high;
  };
  static inline Activation activation(const int16_t* x) {
    int32_t even, odd;
    memcpy(&even, x, sizeof(even));
    memcpy(&odd, x + 2, sizeof(odd));
    return {two(even), two(odd)};
  }
  static inline void add(Sum& sum, const uint8_t* weights, const Activation& a) {
    const Register bytes = load<Register>(weights);
    sum += (Ints)multiply(low(bytes), a.low) + (Ints)multiply(high(bytes), a.high);
  }
};
#else
struct Int8 {
  using Sum = Ints;
  using Input = uint8_t;
  static constexpr int kGroup = 4;
  static constexpr int kRows = kMostRows;
  static constexpr bool kInteger = true, kUnsigned = false;
  struct Activation {
    int32_t values[4];
  };
  static inline Activation activation(const uint8_t* x) {
    return {{x[0] - 128, x[1] - 128, x[2] - 128, x[3] - 128}};
  }
  static inline void add(Sum& sum, const uint8_t* weights, const Activation& a) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "packed weights are little-endian"
#endif
    const Ints bytes = load<Ints>(weights);
    for (int i = 0; i < 4; ++i) sum += a.values[i] * ((bytes << (24 - 8 * i)) >> 24);
  }
};
#endif

// Sums of one tile: `Rows` rows, the panel's columns from `column` on. `next`: the line that
// `Ahead::kNext` asks for in the first group. A function of its own, so that the tile gets all
// registers whatever is around it.
template <typename Precision, int Rows, Ahead kAhead>
[[gnu::noinline]] static void sum_tile(const typename Precision::Input* x, int64_t x_stride,
                                       const uint8_t* weights, const uint8_t* next, int64_t groups,
                                       const typename Precision::Sum* start,
                                       typename Precision::Sum (&sums)[kMostRows][kVectors]) {
  using Sum = typename Precision::Sum;
  Sum tile[Rows][kVectors];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) tile[row][v] = start[v];
  }
  for (int64_t group = 0; group < groups; ++group, weights += kGroupStride) {
    if constexpr (kAhead == Ahead::kOwn) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(weights + kPrefetch + v * kWidth * 4);
    } else if constexpr (kAhead == Ahead::kNext) {
      // Into the second level: the first holds this panel, which the next rows read again.
      __builtin_prefetch(next + group * kGroupStride, 0, 2);
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const auto a = Precision::activation(x + row * x_stride + group * Precision::kGroup);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) Precision::add(tile[row][v], weights + v * kWidth * 4, a);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[row][v] = tile[row][v];
  }
}

template <typename Precision, Ahead kAhead>
static inline void sum_rows(int rows, const typename Precision::Input* x, int64_t x_stride,
                            const uint8_t* weights, const uint8_t* next, int64_t groups,
                            const typename Precision::Sum* start,
                            typename Precision::Sum (&sums)[kMostRows][kVectors]) {
  switch (rows) {
    case 1:
      return sum_tile<Precision, 1, kAhead>(x, x_stride, weights, next, groups, start, sums);
    case 2:
      return sum_tile<Precision, 2, kAhead>(x, x_stride, weights, next, groups, start, sums);
    case 3:
      return sum_tile<Precision, 3, kAhead>(x, x_stride, weights, next, groups, start, sums);
    case 4:
      return sum_tile<Precision, 4, kAhead>(x, x_stride, weights, next, groups, start, sums);
    case 5:
      return sum_tile<Precision, 5, kAhead>(x, x_stride, weights, next, groups, start, sums);
    default:
      return sum_tile<Precision, Precision::kRows, kAhead>(x, x_stride, weights, next, groups,
                                                           start, sums);
  }
}

// Returns 0 where a value is below `end`, NaN if it is minus infinity, and else what was found.
// What is left of a factor there is the rounding of 1, which the value would make large again.
static inline Floats far_below(Floats value, float end, Floats found) {
  return value < end ? value * 0.0F : found;
}

template <optops_activation kActivation>
static inline Floats activate(Floats value) {
  if constexpr (kActivation == OPTOPS_RELU) {
    return value < 0.0F ? Floats{} : value;  // NaN stays NaN
  } else if constexpr (kActivation == OPTOPS_GELU_ERF) {
    return far_below(value, -5.5F, 0.5F * value * (1.0F + error_function(value * 0.70710678F)));
  } else if constexpr (kActivation == OPTOPS_GELU_TANH) {
    return 0.5F * value *
           (1.0F + hyperbolic_tangent(0.79788456F * (value + 0.044715F * value * value * value)));
  } else if constexpr (kActivation == OPTOPS_SILU) {
    return far_below(value, -88.0F, value / (1.0F + exponential(-value)));
  } else {
    return value;
  }
}

// Calls body<activation>(), so that it is chosen once and not for each value.
template <typename Body>
static inline void with_activation(optops_activation activation, Body body) {
  switch (activation) {
    case OPTOPS_RELU:
      return body.template operator()<OPTOPS_RELU>();
    case OPTOPS_GELU_ERF:
      return body.template operator()<OPTOPS_GELU_ERF>();
    case OPTOPS_GELU_TANH:
      return body.template operator()<OPTOPS_GELU_TANH>();
    case OPTOPS_SILU:
      return body.template operator()<OPTOPS_SILU>();
    default:
      return body.template operator()<OPTOPS_LINEAR>();
  }
}

// What the sums of a tile become outputs with: the columns' own numbers, loaded once for the rows
// that are finished together.
template <typename Precision>
struct Finish {
  Floats bias[kVectors], scales[kVectors];
  const float* row_scales;

  Finish(const ProductTask& task, int64_t column) : row_scales(task.row_scales) {
    memcpy(bias, task.bias + column, sizeof(bias));
    if constexpr (Precision::kInteger) memcpy(scales, task.column_scales + column, sizeof(scales));
  }

  // Returns a vector of sums as outputs: scaled, with the bias.
  inline Floats operator()(int64_t row, int v, typename Precision::Sum sum) const {
    if constexpr (Precision::kInteger) {
      return __builtin_convertvector(sum, Floats) * (scales[v] * row_scales[row]) + bias[v];
    } else {
      return sum + bias[v];
    }
  }
};

// Writes the first `count` of a vector, with the residual if there is one.
static inline void write_outputs(Floats value, const float* residual, int64_t count, float* y) {
  if (count >= kWidth) {
    store(y, residual ? value + load<Floats>(residual) : value);
  } else {
    for (int64_t i = 0; i < count; ++i) y[i] = residual ? value[i] + residual[i] : value[i];
  }
}

// Writes the rows of a tile: scales, bias, activation, residual.
template <typename Precision, optops_activation kActivation>
static inline void write_rows(const ProductTask& task, int64_t row, int64_t rows, int64_t column,
                              const typename Precision::Sum (*sums)[kVectors]) {
  const Finish<Precision> finish(task, column);
  const int64_t left = task.outputs - column;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = (row + i) * task.y_stride + column;
    float* y = task.y + at;
    const float* residual = task.residual ? task.residual + at : nullptr;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Floats value = activate<kActivation>(finish(row + i, v, sums[i][v]));
      write_outputs(value, residual ? residual + v * kWidth : nullptr, left - v * kWidth,
                    y + v * kWidth);
    }
  }
}

// Asks for one row's outputs of a tile, which are written when it is done: the next row's are far
// away, and a store that waits for memory holds up all that come after it.
static inline void ask_for_outputs(const ProductTask& task, int64_t row, int64_t column) {
  if (!task.y) return;
  const float* y = task.y + row * task.y_stride + column;
  for (int line = 0; line < kTileLines; ++line)
    __builtin_prefetch(y + line * (kLine / static_cast<int64_t>(sizeof(float))), 1);
}

}  // namespace optops::OPTOPS_NAMESPACE

#if defined(__AMX_INT8__)
#include "cpu/tile_unit.h"
#endif

namespace optops::OPTOPS_NAMESPACE {

// Computes all tiles of the panels [panel_begin, panel_end) and rows [row_begin, row_end), and
// hands each on: `take(row, rows, column, sums)`.
template <typename Precision, typename Take>
static inline void each_tile(const ProductTask& task, int64_t row_begin, int64_t row_end,
                             int64_t panel_begin, int64_t panel_end, Take take) {
#if defined(__AMX_INT8__)
  if constexpr (Precision::kUnit) {
    return each_unit_tile<Precision>(task, row_begin, row_end, panel_begin, panel_end, take);
  }
#endif
  using Sum = typename Precision::Sum;
  const auto* x = static_cast<const typename Precision::Input*>(task.x);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (int64_t column = panel * kPanelWidth;
         column < (panel + 1) * kPanelWidth && column < task.outputs; column += kTileWidth) {
      const uint8_t* weights =
          task.weights + panel * task.groups * kGroupStride + (column % kPanelWidth) * 4;
      Sum start[kVectors] = {};
      if constexpr (Precision::kUnsigned) memcpy(start, task.offsets + column, sizeof(start));
      const bool last = column + kTileWidth >= (panel + 1) * kPanelWidth;
      const uint8_t* next =
          weights + kTileWidth * 4 + (last ? task.groups * kGroupStride - kPanelWidth * 4 : 0);
      int line = 0;
      for (int64_t row = row_begin; row < row_end; row += Precision::kRows) {
        const int64_t left = row_end - row;
        const int rows = left < Precision::kRows ? static_cast<int>(left) : Precision::kRows;
        const auto* from = x + row * task.x_stride;
        for (int i = 0; i < rows; ++i) ask_for_outputs(task, row + i, column);
        Sum sums[kMostRows][kVectors];
        // The first rows bring the weights from memory, the next ones find them in the cache and
        // bring what the next tile needs.
        if (row == row_begin) {
          sum_rows<Precision, Ahead::kOwn>(rows, from, task.x_stride, weights, next, task.groups,
                                           start, sums);
        } else if (line < kTileLines) {
          sum_rows<Precision, Ahead::kNext>(rows, from, task.x_stride, weights,
                                            next + kLine * line++, task.groups, start, sums);
        } else {
          sum_rows<Precision, Ahead::kNothing>(rows, from, task.x_stride, weights, next,
                                               task.groups, start, sums);
        }
        take(row, rows, column, sums);
      }
    }
  }
}

template <typename Precision>
static void product(const ProductTask& task, int64_t row_begin, int64_t row_end,
                    int64_t panel_begin, int64_t panel_end) {
  using Sum = typename Precision::Sum;
  each_tile<Precision>(task, row_begin, row_end, panel_begin, panel_end,
                       [&](int64_t row, int64_t rows, int64_t column, const Sum(*sums)[kVectors]) {
                         with_activation(task.activation, [&]<optops_activation kActivation>() {
                           write_rows<Precision, kActivation>(task, row, rows, column, sums);
                         });
                       });
}

static void round_rows(const float* x, int64_t rows, int64_t inputs, uint16_t* rounded,
                       int64_t stride) {
  for (int64_t row = 0; row < rows; ++row, x += inputs, rounded += stride) {
    int64_t i = 0;
#if defined(__AVX512BF16__)
    for (; i + 2 * kWidth <= inputs; i += 2 * kWidth)
      store(rounded + i, Bf16::rounded(load<Floats>(x + i), load<Floats>(x + i + kWidth)));
#endif
    for (; i < inputs; ++i) rounded[i] = to_bfloat16(x[i]);
    for (; i < stride; ++i) rounded[i] = 0;
  }
}

// Writes values times `inverse`, rounded, [inputs]; zeroes up to `stride`.
static inline void write_quantized(const float* x, int64_t inputs, int64_t stride, float inverse,
                                   uint8_t* quantized) {
  int64_t i = 0;
  for (; i < inputs; ++i) {
    const float shifted = x[i] * inverse + kRounder;
    uint32_t bits;  // its lowest byte is the rounded value as a signed byte
    memcpy(&bits, &shifted, sizeof(bits));
    quantized[i] = static_cast<uint8_t>(bits ^ 0x80);
  }
  for (; i < stride; ++i) quantized[i] = 128;
}

// The same in words, of each four the even ones first.
static inline void write_quantized(const float* x, int64_t inputs, int64_t stride, float inverse,
                                   int16_t* quantized) {
  typedef int16_t Shorts __attribute__((vector_size(kWidth * 4)));
  Shorts places;
#pragma GCC unroll 32
  for (int lane = 0; lane < 2 * kWidth; ++lane) {
    const int value = lane % kWidth;
    places[lane] = static_cast<int16_t>(2 * (value / 4 * 4 + value % 2 * 2 + value % 4 / 2));
  }
  int64_t i = 0;
  for (; i + kWidth <= inputs; i += kWidth) {
    const Floats shifted = load<Floats>(x + i) * inverse + kRounder;
    const Shorts ordered = __builtin_shuffle(load<Shorts>(&shifted), places);
    memcpy(quantized + i, &ordered, kWidth * sizeof(int16_t));
  }
  for (int64_t rest = i; rest < stride; ++rest) quantized[rest] = 0;
  for (; i < inputs; ++i) {
    const float shifted = x[i] * inverse + kRounder;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    quantized[i / 4 * 4 + i % 2 * 2 + i % 4 / 2] = static_cast<int16_t>(bits);
  }
}

static void quantize_rows(const float* x, int64_t rows, int64_t inputs, void* to, int64_t stride,
                          float* scales) {
  auto* quantized = static_cast<Int8::Input*>(to);
  for (int64_t row = 0; row < rows; ++row, x += inputs, quantized += stride) {
    // Several side by side, for each waits for the one before.
    constexpr int kSide = 4;
    Floats largest[kSide] = {}, poison[kSide] = {};  // 0 * x is NaN where x is not finite
    const auto see = [&](int side, Floats value) {
      const Words bits = load<Words>(&value) & 0x7fffffffU;
      const Floats size = load<Floats>(&bits);
      largest[side] = size > largest[side] ? size : largest[side];
      poison[side] += value * 0.0F;
    };
    int64_t i = 0;
    for (; i + kSide * kWidth <= inputs; i += kSide * kWidth) {
#pragma GCC unroll 4
      for (int side = 0; side < kSide; ++side) see(side, load<Floats>(x + i + side * kWidth));
    }
    for (; i + kWidth <= inputs; i += kWidth) see(0, load<Floats>(x + i));
    for (int side = 1; side < kSide; ++side) {
      largest[0] = largest[side] > largest[0] ? largest[side] : largest[0];
      poison[0] += poison[side];
    }
    float most = 0.0F, finite = 0.0F;
    for (int lane = 0; lane < kWidth; ++lane) {
      if (largest[0][lane] > most) most = largest[0][lane];
      finite += poison[0][lane];
    }
    for (; i < inputs; ++i) {
      if (magnitude(x[i]) > most) most = magnitude(x[i]);
      finite += x[i] * 0.0F;
    }
    scales[row] = most / 127.0F + finite;
    const float inverse = most > 0.0F ? 127.0F / most : 0.0F;
    write_quantized(x, inputs, stride, inverse, quantized);
  }
}

}  // namespace optops::OPTOPS_NAMESPACE
