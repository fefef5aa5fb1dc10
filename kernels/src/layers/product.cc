#include "layers/product.h"

#include <algorithm>

namespace optops {
namespace {

// Multiplications below which a second thread costs more than it brings: it takes a microsecond to
// meet it.
constexpr int64_t kWorthAThread = 100'000;

// Values up to which each thread prepares all rows for itself, instead of a half and a barrier.
constexpr int64_t kPreparedAlone = 4096;

// Bytes of one value of a prepared row.
int64_t element_of(const KernelTable& table, optops_precision precision) {
  return precision == OPTOPS_FP32 ? 4 : precision == OPTOPS_BF16 ? 2 : table.int8_bytes;
}

// Elements from one prepared row to the next: an odd number of cache lines, so that neighbouring
// rows do not share places in the cache. A few short ones lie close together.
int64_t stride_of(const KernelTable& table, const ProductWeights& weights) {
  const int64_t element = element_of(table, weights.precision), line = kCacheLine;
  const int64_t values = groups(weights.inputs, weights.precision) * group_of(weights.precision);
  const int64_t lines = values * element / line;
  return lines < 4 || (lines % 2 && lines * line == values * element)
             ? values
             : ((lines + 1) | 1) * line / element;
}

int64_t bytes_of(const KernelTable& table, const ProductWeights& weights, int64_t rows) {
  const int64_t element = element_of(table, weights.precision), line = kCacheLine;
  const int64_t bytes = rows_with_room(rows) * stride_of(table, weights) * element;
  return (bytes + line - 1) / line * line;
}

bool prepared_alone(const ProductWeights& weights, int64_t rows) {
  return rows * weights.inputs <= kPreparedAlone;
}

}  // namespace

void Activations::reserve(const ProductWeights& weights, int64_t rows, int threads) {
  const KernelTable& table = kernels();
  const int64_t few = std::min(rows, kPreparedAlone / weights.inputs);
  const int64_t alone = few ? threads * bytes_of(table, weights, few) : 0;
  bytes_.of(std::max(bytes_of(table, weights, rows), alone));
  scales_.of(std::max(rows, threads * few));
  normed_.of(threads * weights.inputs);
}

void Activations::trim(std::size_t most) {
  bytes_.trim(most);
  scales_.trim(most);
  normed_.trim(most);
}

PreparedRows prepare(Team& team, const KernelTable& table, const ProductWeights& weights,
                     const float* x, int64_t x_stride, int64_t rows, const RowNorm* norm,
                     Activations& activations) {
  const int64_t inputs = weights.inputs, stride = stride_of(table, weights);
  if (weights.precision == OPTOPS_FP32 && !norm) return {x, x_stride, nullptr};
  const bool alone = prepared_alone(weights, rows);
  const Range mine = alone ? Range{0, rows} : team.share(rows);
  uint8_t* bytes =
      activations.bytes_.of(0) + (alone ? team.index() * bytes_of(table, weights, rows) : 0);
  float* scales = activations.scales_.of(0) + (alone ? team.index() * rows : 0);
  float* normed = activations.normed_.of(0) + team.index() * inputs;
  for (int64_t row = mine.begin; row < mine.end; ++row) {
    const float* from = x + row * x_stride;
    float* to =
        weights.precision == OPTOPS_FP32 ? reinterpret_cast<float*>(bytes) + row * stride : normed;
    if (norm) {
      table.normalize_rows(from, nullptr, 1, inputs, norm->weights.scale, norm->weights.offset,
                           norm->epsilon, to);
      from = to;
    }
    if (weights.precision == OPTOPS_BF16) {
      table.round_rows(from, 1, inputs, reinterpret_cast<uint16_t*>(bytes) + row * stride, stride);
    } else if (weights.precision == OPTOPS_INT8) {
      table.quantize_rows(from, 1, inputs, bytes + row * stride * table.int8_bytes, stride,
                          scales + row);
    }
  }
  if (!alone) team.barrier();
  return {bytes, stride, scales};
}

ProductTask task_of(const ProductWeights& weights, const PreparedRows& x,
                    optops_activation activation, const float* residual, float* y,
                    int64_t y_stride) {
  return {x.rows,
          x.stride,
          x.scales,
          weights.weights,
          groups(weights.inputs, weights.precision),
          weights.bias,
          weights.column_scales,
          weights.offsets,
          weights.outputs,
          activation,
          residual,
          y,
          y_stride};
}

void multiply(Team& team, const KernelTable& table, const ProductWeights& weights,
              const PreparedRows& x, int64_t rows, optops_activation activation,
              const float* residual, float* y, int64_t y_stride) {
  const ProductTask task = task_of(weights, x, activation, residual, y, y_stride);
  if (weights.panels >= team.size()) {
    const Range panels = team.share(weights.panels);
    table.product[weights.precision](task, 0, rows, panels.begin, panels.end);
  } else {
    const Range mine = team.share(rows);
    table.product[weights.precision](task, mine.begin, mine.end, 0, weights.panels);
  }
  team.barrier();
}

void normalize(Team& team, const KernelTable& table, const RowNorm& norm, const float* from,
               int64_t stride, int64_t rows, float* to) {
  const Range mine = team.share(rows);
  for (int64_t row = mine.begin; row < mine.end; ++row) {
    table.normalize_rows(from + row * stride, nullptr, 1, norm.weights.width, norm.weights.scale,
                         norm.weights.offset, norm.epsilon, to + row * stride);
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
  const Kept room(activations);  // the caller's, whichever thread uses it
  threads = threads_worth(threads, rows * weights.inputs * weights.outputs);
  // In fp32 rows are multiplied where they are.
  if (weights.precision != OPTOPS_FP32) room->reserve(weights, rows, threads);
  parallel(threads, [&](Team& team) {
    const PreparedRows prepared =
        prepare(team, table, weights, x, weights.inputs, rows, nullptr, *room);
    multiply(team, table, weights, prepared, rows, activation, residual, y, weights.outputs);
  });
}

}  // namespace optops
