#include "layers/product.h"

#include "core/thread_pool.h"
#include "cpu/kernel_table.h"

namespace optops {
namespace {

// Multiplications below which a second thread costs more than it brings: it takes a microsecond to
// meet it.
constexpr int64_t kWorthAThread = 100'000;

// Activations in the form that the weights' precision multiplies, made once per call.
struct Prepared {
  const void* x;
  int64_t stride;
  float* scales;
};

Prepared prepare(const ProductWeights& weights, const float* x, int64_t rows) {
  static thread_local Scratch<uint8_t> activations;
  static thread_local Scratch<float> scales;
  if (weights.precision == OPTOPS_FP32) return {x, weights.inputs, nullptr};
  const int64_t stride = groups(weights.inputs, weights.precision) * group_of(weights.precision);
  const int64_t bytes = weights.precision == OPTOPS_BF16 ? 2 : 1;
  return {activations.of(rows * stride * bytes), stride, scales.of(rows)};
}

}  // namespace

void run_product(const ProductWeights& weights, const float* x, int64_t rows,
                 optops_activation activation, const float* residual, float* y, int threads) {
  const KernelTable& table = kernels();
  const Prepared prepared = prepare(weights, x, rows);
  const ProductTask task{prepared.x,
                         prepared.stride,
                         prepared.scales,
                         weights.weights.get(),
                         groups(weights.inputs, weights.precision),
                         weights.bias.get(),
                         weights.column_scales.get(),
                         weights.offsets.get(),
                         weights.outputs,
                         activation,
                         residual,
                         y};
  const int64_t work = rows * weights.inputs * weights.outputs;
  if (work < kWorthAThread * threads) threads = static_cast<int>(work / kWorthAThread);
  const bool by_panels = weights.panels >= threads;
  parallel(threads, [&](Team& team) {
    const Range mine = team.share(rows);
    const float* from = x + mine.begin * weights.inputs;
    if (weights.precision == OPTOPS_BF16) {
      auto* to =
          static_cast<uint16_t*>(const_cast<void*>(prepared.x)) + mine.begin * prepared.stride;
      table.round_rows(from, mine.end - mine.begin, weights.inputs, to, prepared.stride);
    } else if (weights.precision == OPTOPS_INT8) {
      auto* to =
          static_cast<uint8_t*>(const_cast<void*>(prepared.x)) + mine.begin * prepared.stride;
      table.quantize_rows(from, mine.end - mine.begin, weights.inputs, to, prepared.stride,
                          prepared.scales + mine.begin);
    }
    team.barrier();
    if (by_panels) {
      const Range panels = team.share(weights.panels);
      table.product[weights.precision](task, 0, rows, panels.begin, panels.end);
    } else {
      table.product[weights.precision](task, mine.begin, mine.end, 0, weights.panels);
    }
  });
}

}  // namespace optops
