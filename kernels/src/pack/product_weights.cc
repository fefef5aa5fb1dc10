#include "pack/product_weights.h"

#include <cmath>
#include <cstring>

#include "core/status.h"
#include "pack/bfloat16.h"

namespace optops {
namespace {

void check(const float* weights, const float* bias, int64_t inputs, int64_t outputs) {
  if (!weights) fail(OPTOPS_INVALID, "product: weights are missing");
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
  for (int64_t input = 0; input < packed.inputs; ++input) {
    for (int64_t output = 0; output < packed.outputs; ++output) {
      const int64_t panel = output / kPanel, column = output % kPanel;
      const int64_t index =
          ((panel * count + input / group) * kPanel + column) * group + input % group;
      place(index, input, output);
    }
  }
}

void quantize(ProductWeights& packed, const float* weights) {
  for (int64_t input = 0; input < packed.inputs; ++input) {
    for (int64_t output = 0; output < packed.outputs; ++output) {
      const float magnitude = std::fabs(weights[input * packed.outputs + output]);
      if (magnitude > packed.column_scales[output]) packed.column_scales[output] = magnitude;
    }
  }
  for (int64_t output = 0; output < packed.outputs; ++output)
    packed.column_scales[output] /= 127.0F;
  auto* bytes = reinterpret_cast<int8_t*>(packed.weights);
  each(packed, [&](int64_t index, int64_t input, int64_t output) {
    const float scale = packed.column_scales[output];
    const float value =
        scale > 0 ? std::nearbyint(weights[input * packed.outputs + output] / scale) : 0.0F;
    bytes[index] = static_cast<int8_t>(value > 127 ? 127 : value < -127 ? -127 : value);
    packed.offsets[output] -= 128 * bytes[index];
  });
}

}  // namespace

ProductWeights::ProductWeights(int64_t inputs, int64_t outputs, optops_precision precision)
    : precision(precision),
      inputs(inputs),
      outputs(outputs),
      panels((outputs + kPanel - 1) / kPanel) {
  const int64_t most = precision == OPTOPS_INT8 ? kMostInt8Inputs : kMostInputs;
  if (inputs < 1 || inputs > most || outputs < 1 || outputs > kMostOutputs) {
    fail(OPTOPS_INVALID,
         "product: %lld inputs and %lld outputs; there may be 1 to %lld and 1 to %lld",
         static_cast<long long>(inputs), static_cast<long long>(outputs),
         static_cast<long long>(most), static_cast<long long>(kMostOutputs));
  }
}

ProductWeights::ProductWeights(Numbers& numbers)
    : ProductWeights([&] {
        const optops_precision precision = next_precision(numbers);
        const int64_t inputs = numbers.next("product: inputs", 1, kMostInputs);
        return ProductWeights(inputs, numbers.next("product: outputs", 1, kMostOutputs), precision);
      }()) {}

void ProductWeights::place(Places& places) {
  places.place(weights, bytes());
  places.place(bias, panels * kPanel);
  if (precision == OPTOPS_INT8) {
    places.place(column_scales, panels * kPanel);
    places.place(offsets, panels * kPanel);
  }
}

void ProductWeights::fill(const float* values, const float* bias_values) {
  check(values, bias_values, inputs, outputs);
  if (bias_values) std::memcpy(bias, bias_values, outputs * sizeof(float));
  if (precision == OPTOPS_INT8) {
    quantize(*this, values);
  } else if (precision == OPTOPS_BF16) {
    auto* halves = reinterpret_cast<uint16_t*>(weights);
    each(*this, [&](int64_t index, int64_t input, int64_t output) {
      halves[index] = to_bfloat16(values[input * outputs + output]);
    });
  } else {
    auto* floats = reinterpret_cast<float*>(weights);
    each(*this, [&](int64_t index, int64_t input, int64_t output) {
      floats[index] = values[input * outputs + output];
    });
  }
}

optops_precision next_precision(Numbers& numbers) {
  return static_cast<optops_precision>(numbers.next("precision", OPTOPS_FP32, OPTOPS_INT8));
}

void NormWeights::fill(const float* scale_values, const float* offset_values) {
  copy_finite("a norm", scale_values, width, scale);
  copy_finite("a norm", offset_values, width, offset);
}

void copy_finite(const char* name, const float* from, int64_t count, float* to) {
  if (!from) fail(OPTOPS_INVALID, "%s is missing", name);
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(from[i]))
      fail(OPTOPS_INVALID, "%s holds %f", name, static_cast<double>(from[i]));
  }
  std::memcpy(to, from, count * sizeof(float));
}

}  // namespace optops
