// The best outputs of a product, chosen as its tiles leave the registers: a vocabulary's logits are
// never written down.
//
// What goes into the log of the sum of exponentials is kept per tile and added up in the order of
// the tiles, and ties go to the smaller output: so the result does not depend on who computed
// which panels.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

template <int Half = kWidth / 2>
static inline float largest_of(Floats values) {
  if constexpr (Half > 0) {
    Ints other;
#pragma GCC unroll 16
    for (int lane = 0; lane < kWidth; ++lane) other[lane] = lane ^ Half;
    const Floats swapped = __builtin_shuffle(values, other);
    return largest_of<Half / 2>(swapped > values ? swapped : values);
  } else {
    return values[0];
  }
}

// Takes an output into a row's choices if it is larger than the smallest of them.
static inline void offer(float value, int32_t output, int64_t choices, float* best,
                         int32_t* best_outputs) {
  if (!(value > best[choices - 1])) return;
  int64_t place = choices - 1;
  for (; place > 0 && value > best[place - 1]; --place) {
    best[place] = best[place - 1];
    best_outputs[place] = best_outputs[place - 1];
  }
  best[place] = value;
  best_outputs[place] = output;
}

template <typename Precision>
static void choose(const ChoiceTask& task, int64_t rows, int64_t panel_begin, int64_t panel_end) {
  for (int64_t i = 0; i < rows * task.choices; ++i) {
    task.best[i] = -__builtin_inff();
    task.best_outputs[i] = -1;
  }
  const auto take_row = [&](int64_t row, int64_t column, const Finish<Precision>& finish,
                            const typename Precision::Sum* sums) {
    const int64_t left = task.product.outputs - column;
    Floats values[kVectors];
    Floats largest = spread(-__builtin_inff());
    for (int v = 0; v < kVectors; ++v) {
      values[v] = spread(-__builtin_inff());
      if (v * kWidth >= left) continue;
      values[v] = finish(row, v, sums[v]);
      for (int64_t lane = left - v * kWidth; lane < kWidth; ++lane)
        values[v][lane] = -__builtin_inff();
      largest = values[v] > largest ? values[v] : largest;
    }
    const float most = largest_of(largest);
    Floats total = {};
    for (int v = 0; v < kVectors; ++v) total += exponential(values[v] - most);
    float* best = task.best + row * task.choices;
    if (most > best[task.choices - 1]) {
      int32_t* outputs = task.best_outputs + row * task.choices;
      for (int64_t i = 0; i < kTileWidth && i < left; ++i) {
        if (column + i != task.forbidden)
          offer(values[i / kWidth][i % kWidth], static_cast<int32_t>(column + i), task.choices,
                best, outputs);
      }
    }
    if (column <= task.noted && task.noted < column + kTileWidth) {
      const int64_t i = task.noted - column;
      task.noted_values[row] = values[i / kWidth][i % kWidth];
    }
    const int64_t tile = row * task.tiles + column / kTileWidth;
    task.largest[tile] = most;
    task.sums[tile] = sum_of(total);
  };
  const auto take = [&](int64_t row, int64_t count, int64_t column,
                        const typename Precision::Sum(*sums)[kVectors]) {
    const Finish<Precision> finish(task.product, column);
    for (int64_t i = 0; i < count; ++i) take_row(row + i, column, finish, sums[i]);
  };
  each_tile<Precision>(task.product, 0, rows, panel_begin, panel_end, take);
}

static float log_sum(const float* largest, const float* sums, int64_t tiles) {
  float most = largest[0];
  for (int64_t i = 1; i < tiles; ++i) most = largest[i] > most ? largest[i] : most;
  Floats total = {};
  for (int64_t i = 0; i < tiles; i += kWidth) {
    const size_t bytes =
        static_cast<size_t>(tiles - i < kWidth ? tiles - i : kWidth) * sizeof(float);
    Floats size = spread(most), sum = {};
    memcpy(&size, largest + i, bytes);
    memcpy(&sum, sums + i, bytes);
    total += sum * exponential(size - most);
  }
  return most + __builtin_logf(sum_of(total));
}

}  // namespace optops::OPTOPS_NAMESPACE
