// Keys and values of one head as panels of products: keys are turned, values copied, tokens and
// features filled up with zeros. It is a small part of attention, and no tensor is transposed in
// memory before.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

// What attention multiplies in between products of bfloat16 or int8. Without such instructions fp32
// is closer and no slower.
#if defined(__AVX512BF16__)
using Rounded = Bf16;
#else
using Rounded = Fp32;
#endif

// The same for a few rows, which are done before AMX is set up.
struct FewRounded : Rounded {
  static constexpr bool kUnit = false;
};

static inline int64_t padded(int64_t count) {
  return (count + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
}

// Groups that so many features or tokens make: as many as leave no rest for AMX.
template <typename Precision>
static inline int64_t groups_of(int64_t count) {
  const int64_t groups = (count + Precision::kGroup - 1) / Precision::kGroup;
#if defined(__AMX_BF16__)
  if constexpr (Precision::kUnit) return (groups + kTileGroups - 1) / kTileGroups * kTileGroups;
#endif
  return groups;
}

// Groups of one row's features, one in each word.
template <typename Precision>
static inline Words groups_at(const float* row, int64_t count, float scale) {
  const Floats first = load_first(row, count) * scale;
  if constexpr (Precision::kGroup == 1) {
    return load<Words>(&first);
  } else {
    return Precision::rounded(first, load_first(row + kWidth, count - kWidth) * scale);
  }
}

// Asks for what the next head has in a row, behind this one's: rows lie far apart, so that nobody
// foresees it.
static inline void ask_for_next_head(const float* row, int64_t head_size) {
  for (int64_t i = 0; i < head_size; i += kLine / 4) __builtin_prefetch(row + head_size + i, 0, 2);
}

// Writes keys [tokens, stride] as panels [padded / 64][groups][64], times the scale; zero where
// there is no token or feature. Returns the square of the longest one's length, or infinity where
// nothing depends on it.
template <typename Precision>
static inline float turn_keys(const float* keys, int64_t tokens, int64_t stride, int64_t head_size,
                              float scale, float* panels) {
  const int64_t groups = groups_of<Precision>(head_size);
  Floats longest = {};
  for (int64_t token = 0; token < padded(tokens); token += kWidth) {
    Floats squares = {};
    float* panel = panels + token / kPanelWidth * groups * kPanelWidth + token % kPanelWidth;
    for (int64_t i = token; i < token + kWidth && i < tokens; ++i)
      ask_for_next_head(keys + i * stride, head_size);
    for (int64_t group = 0; group < groups; group += kWidth) {
      const int64_t feature = group * Precision::kGroup;
      Words rows[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) {
        rows[i] = token + i < tokens ? groups_at<Precision>(keys + (token + i) * stride + feature,
                                                            head_size - feature, scale)
                                     : Words{};
      }
      transpose<kWidth / 2>(rows);
      for (int64_t i = 0; i < kWidth && group + i < groups; ++i) {
        store(panel + (group + i) * kPanelWidth, rows[i]);
        if constexpr (Precision::kGroup > 1) Precision::add_square(squares, rows[i]);
      }
    }
    longest = larger(longest, squares);
  }
  return Precision::kGroup > 1 ? largest_of(longest) : __builtin_inff();
}

// Groups of tokens of some features, one feature in each word.
template <typename Precision>
static inline Words tokens_at(const float* values, int64_t tokens, int64_t stride, int64_t count) {
  const Floats first = load_first(values, count);
  if constexpr (Precision::kGroup == 1) {
    return load<Words>(&first);
  } else {
    const Floats second = tokens > 1 ? load_first(values + stride, count) : Floats{};
    typedef uint16_t Halves __attribute__((vector_size(kWidth * 4)));
    Halves places;
#pragma GCC unroll 32
    for (int lane = 0; lane < 2 * kWidth; ++lane)
      places[lane] = static_cast<uint16_t>(lane / 2 + lane % 2 * kWidth);
    return (Words)__builtin_shuffle((Halves)Precision::rounded(first, second), places);
  }
}

// Writes values [tokens, stride] as panels [padded head_size / 64][groups][64]; zero where there is
// no token or feature.
template <typename Precision>
static inline void copy_values(const float* values, int64_t tokens, int64_t stride,
                               int64_t head_size, float* panels) {
  const int64_t groups = groups_of<Precision>(tokens);
  for (int64_t first = 0; first < head_size; first += kPanelWidth) {
    for (int64_t group = 0; group < groups; ++group, panels += kPanelWidth) {
      const int64_t token = group * Precision::kGroup;
      if (first == 0) {
        for (int64_t i = token; i < token + Precision::kGroup && i < tokens; ++i)
          ask_for_next_head(values + i * stride, head_size);
      }
      for (int64_t column = 0; column < kPanelWidth; column += kWidth) {
        const int64_t feature = first + column, count = token < tokens ? head_size - feature : 0;
        store(panels + column, tokens_at<Precision>(values + token * stride + feature,
                                                    tokens - token, stride, count));
      }
    }
  }
}

template <typename Precision>
static float write_panels(const float* keys, const float* values, int64_t tokens, int64_t stride,
                          int64_t head_size, float scale, float* panels) {
  copy_values<Precision>(values, tokens, stride, head_size,
                         panels + padded(tokens) * groups_of<Precision>(head_size));
  constexpr float kUnit = Precision::kGroup > 1 ? 1.44269504F : 1.0F;  // of power_of_two, or of e^x
  return turn_keys<Precision>(keys, tokens, stride, head_size, scale * kUnit, panels);
}

}  // namespace optops::OPTOPS_NAMESPACE
