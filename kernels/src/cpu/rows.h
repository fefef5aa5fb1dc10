// Functions of one row at a time: layer normalisation, activation and softmax.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

static inline float sum_of(Floats value) {
  float total = 0.0F;
  for (int lane = 0; lane < kWidth; ++lane) total += value[lane];
  return total;
}

static inline void add_row(const float* x, const float* other, int64_t width, float* y) {
  const int64_t whole = width / kWidth * kWidth;
  for (int64_t i = 0; i < whole; i += kWidth)
    store(y + i, load<Floats>(x + i) + load<Floats>(other + i));
  for (int64_t i = whole; i < width; ++i) y[i] = x[i] + other[i];
}

static void normalize_rows(const float* from, const float* residual, int64_t rows, int64_t width,
                           const float* scale, const float* offset, float epsilon, float* y) {
  const int64_t whole = width / kWidth * kWidth;
  for (int64_t row = 0; row < rows; ++row, y += width) {
    const float* x = from + row * width;
    if (residual) {
      add_row(x, residual + row * width, width, y);
      x = y;
    }
    Floats sums = {};
    for (int64_t i = 0; i < whole; i += kWidth) sums += load<Floats>(x + i);
    float total = sum_of(sums);
    for (int64_t i = whole; i < width; ++i) total += x[i];
    const float mean = total / static_cast<float>(width);
    // The squares of the differences, not the difference of the squares: that would cancel for a
    // large mean.
    Floats squares = {};
    for (int64_t i = 0; i < whole; i += kWidth) {
      const Floats centred = load<Floats>(x + i) - mean;
      squares += centred * centred;
    }
    float variance = sum_of(squares);
    for (int64_t i = whole; i < width; ++i) variance += (x[i] - mean) * (x[i] - mean);
    const float factor = 1.0F / __builtin_sqrtf(variance / static_cast<float>(width) + epsilon);
    for (int64_t i = 0; i < whole; i += kWidth) {
      store(y + i, (load<Floats>(x + i) - mean) * factor * load<Floats>(scale + i) +
                       load<Floats>(offset + i));
    }
    for (int64_t i = whole; i < width; ++i) y[i] = (x[i] - mean) * factor * scale[i] + offset[i];
  }
}

// Returns the largest of the first `count` of `stride` scores; the others become minus infinity.
// `stride` is a multiple of kWidth.
static inline float largest_score(float* scores, int64_t count, int64_t stride) {
  for (int64_t i = count; i < stride; ++i) scores[i] = -__builtin_inff();
  Floats largest = load<Floats>(scores);
  for (int64_t i = kWidth; i < stride; i += kWidth)
    largest = larger(load<Floats>(scores + i), largest);
  return largest_of(largest);
}

// Turns scores into weights, up to `stride`: zero beyond `count`. They are not divided by their
// sum, whose inverse is returned.
static inline float weigh(float* scores, int64_t count, int64_t stride) {
  const float most = largest_score(scores, count, stride);
  Floats sums = {};
  for (int64_t i = 0; i < stride; i += kWidth) {
    const Floats weights = exponential(load<Floats>(scores + i) - most);
    sums += weights;
    store(scores + i, weights);
  }
  for (int64_t i = count; i < stride; ++i) scores[i] = 0.0F;
  // What the padding added, which is e^-87 each, is less than half a unit in the last place of the
  // sum.
  return 1.0F / sum_of(sums);
}

// Softmax of the first `count` of `stride` scores, in place; the others become 0. `stride` is a
// multiple of kWidth.
static inline void softmax_row(float* scores, int64_t count, int64_t stride) {
  const float factor = weigh(scores, count, stride);
  for (int64_t i = 0; i < count; ++i) scores[i] *= factor;
}

static void activate_rows(const float* x, int64_t rows, int64_t width, const float* bias,
                          optops_activation activation, float* y) {
  const int64_t whole = width / kWidth * kWidth;
  with_activation(activation, [&]<optops_activation kActivation>() {
    for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
      for (int64_t i = 0; i < whole; i += kWidth)
        store(y + i, activate<kActivation>(load<Floats>(x + i) + load<Floats>(bias + i)));
      Floats rest = {};
      for (int64_t i = whole; i < width; ++i) rest[i - whole] = x[i] + bias[i];
      rest = activate<kActivation>(rest);
      for (int64_t i = whole; i < width; ++i) y[i] = rest[i - whole];
    }
  });
}

static void softmax_rows(const float* x, int64_t rows, int64_t width, const int32_t* counts,
                         float* y, float* room) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const int64_t count = counts[row];
    memcpy(room, x, static_cast<size_t>(count) * sizeof(float));
    if (count) softmax_row(room, count, (count + kWidth - 1) / kWidth * kWidth);
    memcpy(y, room, static_cast<size_t>(count) * sizeof(float));
    memset(y + count, 0, static_cast<size_t>(width - count) * sizeof(float));
  }
}

}  // namespace optops::OPTOPS_NAMESPACE
