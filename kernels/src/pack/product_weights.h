// The packed form of a product's weights: panels of 64 outputs, inputs in groups, so that a kernel
// reads straight on.
#ifndef OPTOPS_PACK_PRODUCT_WEIGHTS_H_
#define OPTOPS_PACK_PRODUCT_WEIGHTS_H_

#include <cstdint>

#include "core/aligned.h"
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

struct ProductWeights {
  optops_precision precision;
  int64_t inputs;
  int64_t outputs;
  int64_t panels;
  Aligned<uint8_t> weights;  // [panels][groups][64] groups; zero where there is no input or output
  Aligned<float> bias;       // [panels * 64]
  Aligned<float> column_scales;  // int8: [panels * 64]
  Aligned<int32_t>
      offsets;  // int8: [panels * 64], -128 times the column's sum: activations come as a + 128
};

// Packs weights [inputs, outputs] and a bias [outputs], which may be null; throws Error if they can
// not be.
ProductWeights pack_product(const float* weights, const float* bias, int64_t inputs,
                            int64_t outputs, optops_precision precision);

}  // namespace optops

#endif  // OPTOPS_PACK_PRODUCT_WEIGHTS_H_
