#include "layers/product.h"

namespace optops {
namespace {

// Multiplications below which a second thread costs more than it brings: it takes a microsecond to
// meet it.
constexpr int64_t kWorthAThread = 100'000;

int64_t stride_of(const ProductWeights& weights) {
  return groups(weights.inputs, weights.precision) * group_of(weights.precision);
}

}  // namespace

void Activations::reserve(const ProductWeights& weights, int64_t rows) {
  if (weights.precision == OPTOPS_FP32) return;
  bytes_.of(rows * stride_of(weights) * (weights.precision == OPTOPS_BF16 ? 2 : 1));
  scales_.of(rows);
}

void product_step(Team& team, const KernelTable& table, const ProductWeights& weights,
                  const float* x, int64_t rows, optops_activation activation, const float* residual,
                  float* y, Activations& activations) {
  const Range mine = team.share(rows);
  const int64_t stride = stride_of(weights);
  const float* from = x + mine.begin * weights.inputs;
  ProductTask task{x,
                   weights.inputs,
                   nullptr,
                   weights.weights.get(),
                   groups(weights.inputs, weights.precision),
                   weights.bias.get(),
                   weights.column_scales.get(),
                   weights.offsets.get(),
                   weights.outputs,
                   activation,
                   residual,
                   y,
                   weights.outputs};
  if (weights.precision != OPTOPS_FP32) {
    task.x = activations.bytes();
    task.x_stride = stride;
    if (weights.precision == OPTOPS_BF16) {
      auto* to = reinterpret_cast<uint16_t*>(activations.bytes()) + mine.begin * stride;
      table.round_rows(from, mine.end - mine.begin, weights.inputs, to, stride);
    } else {
      task.row_scales = activations.scales();
      table.quantize_rows(from, mine.end - mine.begin, weights.inputs,
                          activations.bytes() + mine.begin * stride, stride,
                          activations.scales() + mine.begin);
    }
    team.barrier();
  }
  if (weights.panels >= team.size()) {
    const Range panels = team.share(weights.panels);
    table.product[weights.precision](task, 0, rows, panels.begin, panels.end);
  } else {
    table.product[weights.precision](task, mine.begin, mine.end, 0, weights.panels);
  }
  team.barrier();
}

int threads_worth(int threads, int64_t multiplications) {
  const int64_t most = multiplications / kWorthAThread;
  return most < threads ? static_cast<int>(most > 1 ? most : 1) : threads;
}

void run_product(const ProductWeights& weights, const float* x, int64_t rows,
                 optops_activation activation, const float* residual, float* y, int threads) {
  const KernelTable& table = kernels();
  static thread_local Activations activations;
  Activations& room = activations;  // the caller's, whichever thread uses it
  room.reserve(weights, rows);
  parallel(threads_worth(threads, rows * weights.inputs * weights.outputs), [&](Team& team) {
    product_step(team, table, weights, x, rows, activation, residual, y, room);
  });
}

}  // namespace optops
