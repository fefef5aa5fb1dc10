#include "pack/product_weights.h"

#include <cmath>
#include <cstring>

#include "core/status.h"
#include "pack/bfloat16.h"

namespace optops {
namespace {

constexpr int64_t kMostInputs = int64_t{1} << 17;  // int32 sums of int8 products hold 2^17 of them
constexpr int64_t kMostOutputs = int64_t{1} << 28;

void check(const float* weights, const float* bias, int64_t inputs, int64_t outputs) {
  if (!weights) fail(OPTOPS_INVALID, "product: weights are missing");
  if (inputs < 1 || inputs > kMostInputs || outputs < 1 || outputs > kMostOutputs) {
    fail(OPTOPS_INVALID,
         "product: %lld inputs and %lld outputs; there may be 1 to %lld and 1 to %lld",
         static_cast<long long>(inputs), static_cast<long long>(outputs),
         static_cast<long long>(kMostInputs), static_cast<long long>(kMostOutputs));
  }
  for (int64_t i = 0; i < inputs * outputs; ++i) {
    if (!std::isfinite(weights[i])) {
      fail(OPTOPS_INVALID, "product: the weight of input %lld and output %lld is %f",
           static_cast<long long>(i / outputs), static_cast<long long>(i % outputs),
           static_cast<double>(weights[i]));
    }
  }
  for (int64_t i = 0; bias && i < outputs; ++i) {
    if (!std::isfinite(bias[i])) {
      fail(OPTOPS_INVALID, "product: bias %lld is %f", static_cast<long long>(i),
           static_cast<double>(bias[i]));
    }
  }
}

// Visits the packed place of every weight.
template <typename Place>
void each(const ProductWeights& packed, Place&& place) {
  const int64_t group = group_of(packed.precision), count = groups(packed.inputs, packed.precision);
  for (int64_t output = 0; output < packed.outputs; ++output) {
    const int64_t panel = output / kPanel, column = output % kPanel;
    for (int64_t input = 0; input < packed.inputs; ++input) {
      const int64_t index =
          ((panel * count + input / group) * kPanel + column) * group + input % group;
      place(index, input, output);
    }
  }
}

void quantize(ProductWeights& packed, const float* weights) {
  const int64_t columns = packed.panels * kPanel;
  packed.column_scales = allocate<float>(columns);
  packed.offsets = allocate<int32_t>(columns);
  std::memset(packed.column_scales.get(), 0, columns * sizeof(float));
  std::memset(packed.offsets.get(), 0, columns * sizeof(int32_t));
  for (int64_t input = 0; input < packed.inputs; ++input) {
    for (int64_t output = 0; output < packed.outputs; ++output) {
      const float magnitude = std::fabs(weights[input * packed.outputs + output]);
      if (magnitude > packed.column_scales[output]) packed.column_scales[output] = magnitude;
    }
  }
  for (int64_t output = 0; output < packed.outputs; ++output)
    packed.column_scales[output] /= 127.0F;
  auto* bytes = reinterpret_cast<int8_t*>(packed.weights.get());
  each(packed, [&](int64_t index, int64_t input, int64_t output) {
    const float scale = packed.column_scales[output];
    const float value =
        scale > 0 ? std::nearbyint(weights[input * packed.outputs + output] / scale) : 0.0F;
    bytes[index] = static_cast<int8_t>(value > 127 ? 127 : value < -127 ? -127 : value);
    packed.offsets[output] -= 128 * bytes[index];
  });
}

}  // namespace

ProductWeights pack_product(const float* weights, const float* bias, int64_t inputs,
                            int64_t outputs, optops_precision precision) {
  check(weights, bias, inputs, outputs);
  ProductWeights packed{precision, inputs, outputs, (outputs + kPanel - 1) / kPanel,
                        {},        {},     {},      {}};
  const size_t bytes = packed.panels * groups(inputs, precision) * kPanel * kGroupBytes;
  packed.weights = allocate<uint8_t>(bytes);
  std::memset(packed.weights.get(), 0, bytes);
  packed.bias = allocate<float>(packed.panels * kPanel);
  std::memset(packed.bias.get(), 0, packed.panels * kPanel * sizeof(float));
  if (bias) std::memcpy(packed.bias.get(), bias, outputs * sizeof(float));
  if (precision == OPTOPS_INT8) {
    quantize(packed, weights);
  } else if (precision == OPTOPS_BF16) {
    auto* halves = reinterpret_cast<uint16_t*>(packed.weights.get());
    each(packed, [&](int64_t index, int64_t input, int64_t output) {
      halves[index] = to_bfloat16(weights[input * outputs + output]);
    });
  } else {
    auto* floats = reinterpret_cast<float*>(packed.weights.get());
    each(packed, [&](int64_t index, int64_t input, int64_t output) {
      floats[index] = weights[input * outputs + output];
    });
  }
  return packed;
}

}  // namespace optops
