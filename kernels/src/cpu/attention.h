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

// Writes values [tokens, stride] as panels [padded head_size / 64][tokens][64]; zero beyond the
// head.
static inline void copy_values(const float* values, int64_t tokens, int64_t stride,
                               int64_t head_size, float* panels) {
  for (int64_t first = 0; first < head_size; first += kPanelWidth, panels += tokens * kPanelWidth) {
    const int64_t count = head_size - first < kPanelWidth ? head_size - first : kPanelWidth;
    if (count < kPanelWidth)
      memset(panels, 0, static_cast<size_t>(tokens * kPanelWidth) * sizeof(float));
    for (int64_t token = 0; token < tokens; ++token) {
      memcpy(panels + token * kPanelWidth, values + token * stride + first,
             static_cast<size_t>(count) * sizeof(float));
    }
  }
}

// Writes scores [rows, padded tokens] of queries, and what they see, [rows, context_stride].
// `seen(row)` says how many tokens a row sees; `zeros` holds as many as the longer side is wide.
template <typename Seen>
static inline void attend_panels(const float* queries, int64_t query_stride, int64_t rows,
                                 const float* panels, int64_t tokens, int64_t head_size,
                                 float* scores, const float* zeros, float* context,
                                 int64_t context_stride, Seen seen) {
  const int64_t width = padded(tokens);
  ProductTask task{};
  task.activation = OPTOPS_LINEAR;
  task.bias = zeros;
  task.x = queries;
  task.x_stride = query_stride;
  task.weights = reinterpret_cast<const uint8_t*>(panels);
  task.groups = head_size;
  task.outputs = task.y_stride = width;
  task.y = scores;
  product<Fp32>(task, 0, rows, 0, width / kPanelWidth);
  for (int64_t row = 0; row < rows; ++row) softmax_row(scores + row * width, seen(row), width);
  task.x = scores;
  task.x_stride = width;
  task.weights = reinterpret_cast<const uint8_t*>(panels + width * head_size);
  task.groups = tokens;
  task.outputs = head_size;
  task.y = context;
  task.y_stride = context_stride;
  product<Fp32>(task, 0, rows, 0, padded(head_size) / kPanelWidth);
}

static inline int64_t widest(int64_t tokens, int64_t head_size) {
  return padded(tokens) > padded(head_size) ? padded(tokens) : padded(head_size);
}

static void write_panels(const float* keys, const float* values, int64_t tokens, int64_t stride,
                         int64_t head_size, float scale, float* panels) {
  turn_keys(keys, tokens, stride, head_size, scale, panels);
  copy_values(values, tokens, stride, head_size, panels + padded(tokens) * head_size);
}

static void attend(const AttentionTask& task, int64_t begin, int64_t end, float* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, head = item % task.heads;
    const int64_t memory_start = task.memory_starts[sentence];
    const int64_t tokens = task.memory_ends[sentence] - memory_start;
    const int64_t query_start = task.query_starts[sentence], query_end = task.query_ends[sentence];
    if (!tokens) {
      for (int64_t row = query_start; row < query_end; ++row) {
        memset(task.context + row * task.context_stride + head * task.head_size, 0,
               static_cast<size_t>(task.head_size) * sizeof(float));
      }
      continue;
    }
    const int64_t from = memory_start * task.memory_stride + head * task.head_size;
    float* panels = scratch;
    float* scores = panels + panel_floats(tokens, task.head_size);
    float* zeros = scores + kQueryBlock * padded(tokens);
    memset(zeros, 0, static_cast<size_t>(widest(tokens, task.head_size)) * sizeof(float));
    write_panels(task.keys + from, task.values + from, tokens, task.memory_stride, task.head_size,
                 task.scale, panels);
    for (int64_t first = query_start; first < query_end; first += kQueryBlock) {
      const int64_t rows = query_end - first < kQueryBlock ? query_end - first : kQueryBlock;
      attend_panels(task.queries + first * task.query_stride + head * task.head_size,
                    task.query_stride, rows, panels, tokens, task.head_size, scores, zeros,
                    task.context + first * task.context_stride + head * task.head_size,
                    task.context_stride, [&](int64_t row) {
                      const int64_t place = first - query_start + row + 1;
                      return task.causal && place < tokens ? place : tokens;
                    });
    }
  }
}

static void attend_memory(const MemoryAttentionTask& task, int64_t begin, int64_t end,
                          float* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, head = item % task.heads;
    const int64_t first = task.first_rows[sentence], rows = task.first_rows[sentence + 1] - first;
    const int64_t tokens = task.tokens[sentence];
    float* zeros = scratch + rows * padded(tokens);
    memset(zeros, 0, static_cast<size_t>(widest(tokens, task.head_size)) * sizeof(float));
    attend_panels(task.queries + first * task.query_stride + head * task.head_size,
                  task.query_stride, rows,
                  task.panels + task.heads * task.offsets[sentence] +
                      head * panel_floats(tokens, task.head_size),
                  tokens, task.head_size, scratch, zeros,
                  task.context + first * task.context_stride + head * task.head_size,
                  task.context_stride, [&](int64_t) { return tokens; });
  }
}

// Adds up each of kWidth vectors; lane i of the result is the sum of sums[i]. Halves the vectors in
// each round: lanes with the bit `Half` set go on with the second of a pair.
template <int Half>
static inline Floats sums_of(Floats (&sums)[kWidth]) {
  if constexpr (Half > 0) {
    Ints stay, cross;
#pragma GCC unroll 16
    for (int lane = 0; lane < kWidth; ++lane) {
      const int second = lane & Half ? kWidth : 0;
      stay[lane] = lane + second;
      cross[lane] = (lane ^ Half) + second;
    }
#pragma GCC unroll 8
    for (int i = 0; i < Half; ++i) {
      sums[i] = __builtin_shuffle(sums[i], sums[i + Half], stay) +
                __builtin_shuffle(sums[i], sums[i + Half], cross);
    }
    return sums_of<Half / 2>(sums);
  } else {
    return sums[0];
  }
}

// Scores of one query over the positions [0, count), rounded up to whole vectors: keys[p] is at
// keys + (p * slots + ancestors[p]) * size.
static inline void score_written(const float* query, const float* keys, const uint8_t* ancestors,
                                 int64_t count, int64_t slots, int64_t size, float* scores) {
  for (int64_t first = 0; first < count; first += kWidth) {
    Floats sums[kWidth];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kWidth; ++i) {
      // Beyond the end the last position serves once more; its scores are not used.
      const int64_t position = first + i < count ? first + i : count - 1;
      const float* key = keys + (position * slots + ancestors[position]) * size;
      Floats sum = {};
      for (int64_t at = 0; at < size; at += kWidth)
        sum += load<Floats>(query + at) * load<Floats>(key + at);
      sums[i] = sum;
    }
    store(scores + first, sums_of<kWidth / 2>(sums));
  }
}

// The weighted sum of values, a few vectors at a time.
template <int Vectors>
static inline void mix_written(const float* weights, const float* values, const uint8_t* ancestors,
                               int64_t count, int64_t slots, int64_t size, float* mixed) {
  Floats sums[Vectors] = {};
  for (int64_t position = 0; position < count; ++position) {
    const float* value = values + (position * slots + ancestors[position]) * size;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v)
      sums[v] += weights[position] * load<Floats>(value + v * kWidth);
  }
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) store(mixed + v * kWidth, sums[v]);
}

static void attend_written(const WrittenAttentionTask& task, int64_t begin, int64_t end,
                           float* scratch) {
  const int64_t size = cached_size(task.head_size), part = task.heads * task.head_size;
  const size_t bytes = static_cast<size_t>(task.head_size) * sizeof(float);
  float *query = scratch, *mixed = query + size, *scores = mixed + size;
  memset(query, 0, static_cast<size_t>(size) * sizeof(float));
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, head = item % task.heads;
    const int64_t first = task.first_rows[sentence], rows = task.first_rows[sentence + 1] - first;
    const int64_t half = task.capacities[sentence] * task.slots * size;
    float* keys = task.cache + task.heads * task.offsets[sentence] + head * 2 * half;
    float* values = keys + half;
    const float* joined = task.joined + first * task.joined_stride + head * task.head_size;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t place = (task.position * task.slots + row) * size;
      memcpy(keys + place, joined + row * task.joined_stride + part, bytes);
      memcpy(values + place, joined + row * task.joined_stride + 2 * part, bytes);
      for (int64_t i = task.head_size; i < size; ++i) keys[place + i] = values[place + i] = 0.0F;
    }
    const int64_t count = task.position + 1;
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* ancestors = task.ancestors[first + row];
      for (int64_t i = 0; i < task.head_size; ++i)
        query[i] = joined[row * task.joined_stride + i] * task.scale;
      score_written(query, keys, ancestors, count, task.slots, size, scores);
      softmax_row(scores, count, (count + kWidth - 1) / kWidth * kWidth);
      int64_t at = 0;
      for (; at + 4 * kWidth <= size; at += 4 * kWidth)
        mix_written<4>(scores, values + at, ancestors, count, task.slots, size, mixed + at);
      for (; at < size; at += kWidth)
        mix_written<1>(scores, values + at, ancestors, count, task.slots, size, mixed + at);
      memcpy(task.context + (first + row) * task.context_stride + head * task.head_size, mixed,
             bytes);
    }
  }
}

}  // namespace optops::OPTOPS_NAMESPACE
