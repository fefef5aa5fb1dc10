// Attention of one head over one sentence: two products through the tiles of product.h, and a
// softmax between them.
//
// Keys are turned, and values copied, into panels first: that is a small part of the work, and no
// tensor is transposed in memory before.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

static inline int64_t padded(int64_t count) {
  return (count + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
}

// Writes keys [tokens, stride] as panels [padded / 64][head_size][64], times the scale; zero where
// there is no token.
static inline void turn_keys(const float* keys, int64_t tokens, int64_t stride, int64_t head_size,
                             float scale, float* panels) {
  for (int64_t first = 0; first < tokens; first += kPanelWidth, panels += head_size * kPanelWidth) {
    const int64_t count = tokens - first < kPanelWidth ? tokens - first : kPanelWidth;
    for (int64_t feature = 0; feature < head_size; ++feature) {
      float* row = panels + feature * kPanelWidth;
      for (int64_t token = 0; token < count; ++token)
        row[token] = keys[(first + token) * stride + feature] * scale;
      for (int64_t token = count; token < kPanelWidth; ++token) row[token] = 0.0F;
    }
  }
}

// Writes values [tokens, stride] as panels [padded head_size / 64][padded tokens][64]; zero where
// there is none.
static inline void copy_values(const float* values, int64_t tokens, int64_t stride,
                               int64_t head_size, float* panels) {
  const int64_t rows = padded(tokens);
  for (int64_t first = 0; first < head_size; first += kPanelWidth, panels += rows * kPanelWidth) {
    const int64_t count = head_size - first < kPanelWidth ? head_size - first : kPanelWidth;
    memset(panels, 0, static_cast<size_t>(rows * kPanelWidth) * sizeof(float));
    for (int64_t token = 0; token < tokens; ++token) {
      memcpy(panels + token * kPanelWidth, values + token * stride + first,
             static_cast<size_t>(count) * sizeof(float));
    }
  }
}

static void attend(const AttentionTask& task, int64_t begin, int64_t end, float* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, head = item % task.heads;
    const int64_t memory_start = task.memory_starts[sentence];
    const int64_t tokens = task.memory_starts[sentence + 1] - memory_start, width = padded(tokens);
    const int64_t query_start = task.query_starts[sentence],
                  query_end = task.query_starts[sentence + 1];
    const int64_t from = memory_start * task.memory_stride + head * task.head_size;
    float* key_panels = scratch;
    float* value_panels = key_panels + width * task.head_size;
    float* scores = value_panels + width * padded(task.head_size);
    float* zeros = scores + kQueryBlock * width;
    const int64_t most = width > padded(task.head_size) ? width : padded(task.head_size);
    memset(zeros, 0, static_cast<size_t>(most) * sizeof(float));
    turn_keys(task.keys + from, tokens, task.memory_stride, task.head_size, task.scale, key_panels);
    copy_values(task.values + from, tokens, task.memory_stride, task.head_size, value_panels);
    for (int64_t first = query_start; first < query_end; first += kQueryBlock) {
      const int64_t rows = query_end - first < kQueryBlock ? query_end - first : kQueryBlock;
      ProductTask product_task{};
      product_task.activation = OPTOPS_LINEAR;
      product_task.bias = zeros;
      product_task.x = task.queries + first * task.query_stride + head * task.head_size;
      product_task.x_stride = task.query_stride;
      product_task.weights = reinterpret_cast<const uint8_t*>(key_panels);
      product_task.groups = task.head_size;
      product_task.outputs = product_task.y_stride = width;
      product_task.y = scores;
      product<Fp32>(product_task, 0, rows, 0, width / kPanelWidth);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t seen = task.causal ? first - query_start + row + 1 : tokens;
        softmax_row(scores + row * width, seen, width);
      }
      product_task.x = scores;
      product_task.x_stride = width;
      product_task.weights = reinterpret_cast<const uint8_t*>(value_panels);
      product_task.groups = width;
      product_task.outputs = task.head_size;
      product_task.y = task.context + first * task.context_stride + head * task.head_size;
      product_task.y_stride = task.context_stride;
      product<Fp32>(product_task, 0, rows, 0, padded(task.head_size) / kPanelWidth);
    }
  }
}

}  // namespace optops::OPTOPS_NAMESPACE
