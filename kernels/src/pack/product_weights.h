// The packed form of a product's weights: panels of 64 outputs, inputs in groups, so that a kernel
// reads straight on.
#ifndef OPTOPS_PACK_PRODUCT_WEIGHTS_H_
#define OPTOPS_PACK_PRODUCT_WEIGHTS_H_

#include <cstdint>

#include "core/blob.h"
#include "optops/kernels.h"

namespace optops {

// Outputs in a panel: four registers of sixteen floats. An attention head of 64 is one panel.
inline constexpr int64_t kPanel = 64;

// Inputs that stand together for each output: as many as one instruction multiplies and adds up.
//   fp32 [panel][input][64], bf16 [panel][input / 2][64][2], int8 [panel][input / 4][64][4]
inline constexpr int64_t group_of(optops_precision precision) {
  return precision == OPTOPS_FP32 ? 1 : precision == OPTOPS_BF16 ? 2 : 4;
}

inline constexpr int64_t groups(int64_t inputs, optops_precision precision) {
  return (inputs + group_of(precision) - 1) / group_of(precision);
}

// A group of one output takes four bytes in every precision.
inline constexpr int64_t kGroupBytes = 4;

inline constexpr int64_t kMostInputs = int64_t{1} << 24;
inline constexpr int64_t kMostOutputs = int64_t{1} << 24;
// Of int8: an int32 holds the sum of so many products.
inline constexpr int64_t kMostInt8Inputs = int64_t{1} << 17;
// Of what layers are made of, so that a whole model's size is a number that an int64 holds.
inline constexpr int64_t kWidestLayer = int64_t{1} << 17;

struct ProductWeights {
  optops_precision precision;
  int64_t inputs;
  int64_t outputs;
  int64_t panels;
  uint8_t* weights =
      nullptr;            // [panels][groups][64] groups; zero where there is no input or output
  float* bias = nullptr;  // [panels * 64]
  float* column_scales = nullptr;  // int8: [panels * 64]
  int32_t* offsets =
      nullptr;  // int8: [panels * 64], -128 times the column's sum: activations come as a + 128

  ProductWeights(int64_t inputs, int64_t outputs, optops_precision precision);

  // A product that stands alone: its numbers are the precision, the inputs and the outputs.
  explicit ProductWeights(Numbers& numbers);

  void place(Places& places);

  // Bytes of packed weights.
  int64_t bytes() const { return panels * groups(inputs, precision) * kPanel * kGroupBytes; }

  // Packs weights [inputs, outputs] and a bias [outputs], which may be null; throws Error if one is
  // not finite. The places must be zero.
  void fill(const float* values, const float* bias_values);
};

// Returns the next number as a precision.
optops_precision next_precision(Numbers& numbers);

// Scale and offset of a layer normalisation, [width] each.
struct NormWeights {
  int64_t width = 0;
  float* scale = nullptr;
  float* offset = nullptr;

  void place(Places& places) {
    places.place(scale, width);
    places.place(offset, width);
  }

  // Copies scale and offset; throws Error if one is not finite.
  void fill(const float* scale_values, const float* offset_values);
};

// Copies an array; throws Error, which names it, if a value is not finite.
void copy_finite(const char* name, const float* from, int64_t count, float* to);

}  // namespace optops

#endif  // OPTOPS_PACK_PRODUCT_WEIGHTS_H_
