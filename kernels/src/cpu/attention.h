// Attention of one head over one sentence: two products through the tiles of product.h, and a
// softmax between them. Weights are not divided by their sum: what they make of the values is.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

// One head of some queries, and what they see.
struct Head {
  const float* queries;  // [rows, query_stride]
  int64_t query_stride;
  int64_t rows;
  const float* panels;  // see write_panels
  int64_t tokens;
  int64_t head_size;
  float* context;  // [rows, context_stride]
  int64_t context_stride;
};

// Where attention of some rows keeps what stands between its products.
struct AttentionRoom {
  float* scores;      // [rows, padded tokens]
  float* factors;     // [padded rows]
  uint16_t* queries;  // in bfloat16: [rows with room, padded head_size]
  uint16_t* weights;  // in bfloat16: [rows with room, padded tokens]

  AttentionRoom(float* scratch, int64_t rows, int64_t tokens, int64_t head_size)
      : scores(scratch),
        factors(scores + rows * padded(tokens)),
        queries(reinterpret_cast<uint16_t*>(factors + padded(rows))),
        weights(queries + rows_with_room(rows) * padded(head_size)) {}
};

// The product of rows and panels.
template <typename Precision>
static inline ProductTask task_of(const void* x, int64_t x_stride, const float* panels,
                                  int64_t inputs, int64_t outputs) {
  ProductTask task{};
  task.x = x;
  task.x_stride = x_stride;
  task.weights = reinterpret_cast<const uint8_t*>(panels);
  task.groups = groups_of<Precision>(inputs);
  task.outputs = outputs;
  return task;
}

// Writes scores [rows, padded tokens]; beyond the tokens stands anything.
template <typename Precision>
static inline void write_scores(const Head& head, const void* queries, int64_t stride,
                                float* scores) {
  const int64_t width = padded(head.tokens);
  const ProductTask task =
      task_of<Precision>(queries, stride, head.panels, head.head_size, head.tokens);
  each_tile<Precision>(
      task, 0, head.rows, 0, width / kPanelWidth,
      [&](int64_t row, int64_t rows, int64_t column, const Floats(*sums)[kVectors]) {
        for (int64_t i = 0; i < rows; ++i)
          memcpy(scores + (row + i) * width + column, sums[i], sizeof(sums[i]));
      });
}

// Writes the values that the rows see, by their weights, times each row's factor.
template <typename Precision>
static inline void write_context(const Head& head, const void* weights, int64_t stride,
                                 const float* factors) {
  const float* values = head.panels + padded(head.tokens) * groups_of<Precision>(head.head_size);
  ProductTask task = task_of<Precision>(weights, stride, values, head.tokens, head.head_size);
  task.y = head.context;
  task.y_stride = head.context_stride;
  each_tile<Precision>(
      task, 0, head.rows, 0, padded(head.head_size) / kPanelWidth,
      [&](int64_t row, int64_t rows, int64_t column, const Floats(*sums)[kVectors]) {
        for (int64_t i = 0; i < rows; ++i) {
          float* context = head.context + (row + i) * head.context_stride + column;
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            write_outputs(sums[i][v] * factors[row + i], nullptr,
                          head.head_size - column - v * kWidth, context + v * kWidth);
          }
        }
      });
}

// Writes queries in bfloat16, [rows, padded head_size]; returns the square of the greatest length.
template <typename Precision>
static inline float round_queries(const Head& head, uint16_t* rounded) {
  Floats longest = {};
  for (int64_t first = 0; first < head.rows; first += kWidth) {
    Floats squares[kWidth] = {};
    for (int64_t row = first; row < head.rows && row < first + kWidth; ++row) {
      ask_for_next_head(head.queries + row * head.query_stride, head.head_size);
      for (int64_t i = 0; i < padded(head.head_size); i += 2 * kWidth) {
        const Words groups = groups_at<Precision>(head.queries + row * head.query_stride + i,
                                                  head.head_size - i, 1.0F);
        store(rounded + row * padded(head.head_size) + i, groups);
        Precision::add_square(squares[row - first], groups);
      }
    }
    longest = larger(longest, sums_of<kWidth / 2>(squares));
  }
  return largest_of(longest);
}

// Scores of less, in units of log 2, need no softmax that takes the largest away first: neither
// they nor sums of a million of them overflow or vanish.
inline constexpr float kSmallScore = 80.0F;

// Writes the weights of small scores straight from the product, in bfloat16.
template <typename Precision>
static inline void weigh_small(const Head& head, const AttentionRoom& room) {
  const int64_t width = padded(head.tokens);
  Floats totals[kQueryBlock] = {};
  Ints lanes;
  for (int lane = 0; lane < kWidth; ++lane) lanes[lane] = lane;
  const ProductTask task = task_of<Precision>(room.queries, padded(head.head_size), head.panels,
                                              head.head_size, head.tokens);
  each_tile<Precision>(
      task, 0, head.rows, 0, width / kPanelWidth,
      [&](int64_t row, int64_t rows, int64_t column, const Floats(*sums)[kVectors]) {
        const auto weights = [&](int64_t i, int v) {
          const int64_t left = head.tokens - column - v * kWidth;
          if (left <= 0) return Floats{};
          const Floats all = power_of_two(sums[i][v]);
          return left < kWidth ? (lanes < static_cast<int32_t>(left) ? all : Floats{}) : all;
        };
        for (int64_t i = 0; i < rows; ++i) {
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; v += 2) {
            const Floats first = weights(i, v), second = weights(i, v + 1);
            totals[row + i] += first + second;
            store(room.weights + (row + i) * width + column + v * kWidth,
                  Precision::rounded(first, second));
          }
        }
      });
  for (int64_t row = 0; row < head.rows; row += kWidth) {
    Floats(&some)[kWidth] = *reinterpret_cast<Floats(*)[kWidth]>(totals + row);
    store(room.factors + row, 1.0F / sums_of<kWidth / 2>(some));
  }
}

// As weigh, from scores in units of log 2 to weights in bfloat16.
template <typename Precision>
static inline float weigh(float* scores, int64_t count, int64_t stride, uint16_t* weights) {
  const float most = largest_score(scores, count, stride);
  Floats sums = {};
  for (int64_t i = 0; i < stride; i += 2 * kWidth) {
    const Floats first = power_of_two(load<Floats>(scores + i) - most);
    const Floats second = power_of_two(load<Floats>(scores + i + kWidth) - most);
    sums += first + second;
    store(weights + i, Precision::rounded(first, second));
  }
  for (int64_t i = count; i < stride; ++i) weights[i] = 0;
  return 1.0F / sum_of(sums);
}

// Writes what the queries see. `longest_key`: the square of its length, infinite if nobody knows.
// `seen(row)`: how many tokens a row sees; all of them, if the longest key is known.
template <typename Precision, typename Seen>
static inline void attend_head(const Head& head, const AttentionRoom& room, float longest_key,
                               Seen seen) {
  const int64_t width = padded(head.tokens);
  const int64_t used = (head.tokens + 2 * kWidth - 1) / (2 * kWidth) * (2 * kWidth);
  if constexpr (Precision::kGroup == 1) {
    write_scores<Precision>(head, head.queries, head.query_stride, room.scores);
    for (int64_t row = 0; row < head.rows; ++row)
      room.factors[row] = weigh(room.scores + row * width, seen(row), used);
    write_context<Precision>(head, room.scores, width, room.factors);
  } else {
    const float longest = round_queries<Precision>(head, room.queries);
    if (longest * longest_key < kSmallScore * kSmallScore) {
      weigh_small<Precision>(head, room);
    } else {
      write_scores<Precision>(head, room.queries, padded(head.head_size), room.scores);
      for (int64_t row = 0; row < head.rows; ++row) {
        const int64_t at = row * width;
        room.factors[row] = weigh<Precision>(room.scores + at, seen(row), used, room.weights + at);
      }
    }
    write_context<Precision>(head, room.weights, width, room.factors);
  }
}

template <typename Precision>
static void attend(const AttentionTask& task, int64_t begin, int64_t end, float* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, offset = item % task.heads * task.head_size;
    const int64_t memory_start = task.memory_starts[sentence];
    const int64_t tokens = task.memory_ends[sentence] - memory_start;
    const int64_t query_start = task.query_starts[sentence], query_end = task.query_ends[sentence];
    if (!tokens) {
      for (int64_t row = query_start; row < query_end; ++row) {
        memset(task.context + row * task.context_stride + offset, 0,
               static_cast<size_t>(task.head_size) * sizeof(float));
      }
      continue;
    }
    const int64_t from = memory_start * task.memory_stride + offset;
    const AttentionRoom room(scratch + panel_floats(tokens, task.head_size), kQueryBlock, tokens,
                             task.head_size);
    const float longest_key =
        write_panels<Precision>(task.keys + from, task.values + from, tokens, task.memory_stride,
                                task.head_size, task.scale, scratch);
    for (int64_t first = query_start; first < query_end; first += kQueryBlock) {
      const Head head{.queries = task.queries + first * task.query_stride + offset,
                      .query_stride = task.query_stride,
                      .rows = query_end - first < kQueryBlock ? query_end - first : kQueryBlock,
                      .panels = scratch,
                      .tokens = tokens,
                      .head_size = task.head_size,
                      .context = task.context + first * task.context_stride + offset,
                      .context_stride = task.context_stride};
      attend_head<Precision>(head, room, task.causal ? __builtin_inff() : longest_key,
                             [&](int64_t row) {
                               const int64_t place = first - query_start + row + 1;
                               return task.causal && place < tokens ? place : tokens;
                             });
    }
  }
}

template <typename Precision>
static void attend_memory(const MemoryAttentionTask& task, int64_t begin, int64_t end,
                          float* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, index = item % task.heads;
    const int64_t first = task.first_rows[sentence], offset = index * task.head_size;
    const Head head{.queries = task.queries + first * task.query_stride + offset,
                    .query_stride = task.query_stride,
                    .rows = task.first_rows[sentence + 1] - first,
                    .panels = task.panels + task.heads * task.offsets[sentence] +
                              index * panel_floats(task.tokens[sentence], task.head_size),
                    .tokens = task.tokens[sentence],
                    .head_size = task.head_size,
                    .context = task.context + first * task.context_stride + offset,
                    .context_stride = task.context_stride};
    attend_head<Precision>(head, AttentionRoom(scratch, head.rows, head.tokens, head.head_size),
                           __builtin_inff(), [&](int64_t) { return head.tokens; });
  }
}

}  // namespace optops::OPTOPS_NAMESPACE
