// What every instruction set provides: plain functions on one thread's share of the work.
//
// The small ones here are static: each file of an instruction set has its own, see cpu/vector.h.
#ifndef OPTOPS_CPU_KERNEL_TABLE_H_
#define OPTOPS_CPU_KERNEL_TABLE_H_

#include <stdint.h>

#include "core/cpu_info.h"
#include "optops/kernels.h"

namespace optops {

// A product over packed weights. Strides are in elements.
struct ProductTask {
  const void* x;     // fp32 float, bf16 uint16_t, int8 as `quantize_rows` writes: [rows, x_stride]
  int64_t x_stride;  // at least the inputs, rounded up to whole groups
  const float* row_scales;     // int8: [rows]
  const uint8_t* weights;      // see pack/product_weights.h
  int64_t groups;              // of inputs
  const float* bias;           // [panels * 64]
  const float* column_scales;  // int8: [panels * 64]
  const int32_t* offsets;      // int8: [panels * 64]
  int64_t outputs;
  optops_activation activation;
  const float* residual;  // [rows, y_stride] or null
  float* y;               // [rows, y_stride]
  int64_t y_stride;       // at least the outputs
};

// Computes rows [row_begin, row_end) of the panels [panel_begin, panel_end).
using ProductKernel = void (*)(const ProductTask& task, int64_t row_begin, int64_t row_end,
                               int64_t panel_begin, int64_t panel_end);

// Rows of a tile of AMX, which reads tiles whole wherever a thread's rows begin.
inline constexpr int kTileRows = 16;

// Rows that a product needs room for, so that what is read beyond the last is there.
static inline int64_t rows_with_room(int64_t rows) { return rows + kTileRows - 1; }

// Attention of several sentences, each of which has its tokens from a start to an end. Rows hold
// all heads side by side; head h of a row starts at h * head_size. Strides are in elements.
struct AttentionTask {
  const float* queries;  // [tokens, query_stride]
  int64_t query_stride;
  const float* keys;    // [memory tokens, memory_stride]
  const float* values;  // [memory tokens, memory_stride]
  int64_t memory_stride;
  const int64_t* query_starts;   // [sentences], the first token of each sentence
  const int64_t* query_ends;     // [sentences], the token after its last
  const int64_t* memory_starts;  // [sentences]
  const int64_t* memory_ends;    // [sentences]; a sentence may see nothing
  int64_t heads;
  int64_t head_size;
  float scale;     // on the scores
  bool causal;     // a token sees those up to its own place alone
  float* context;  // [tokens, context_stride]
  int64_t context_stride;
};

// Attention of hypotheses over the sentences that they translate: keys and values stand in panels.
struct MemoryAttentionTask {
  const float* queries;  // [rows, query_stride]
  int64_t query_stride;
  const int64_t* first_rows;  // [sentences + 1], the rows of each sentence
  const float* panels;        // of all sentences, of each head one after the other
  const int64_t* offsets;     // [sentences], floats from one head's panels on to a sentence's
  const int64_t* tokens;      // [sentences], of the memory
  int64_t heads;
  int64_t head_size;
  float* context;  // [rows, context_stride]
  int64_t context_stride;
};

using AttentionKernel = void (*)(const AttentionTask& task, int64_t begin, int64_t end,
                                 float* scratch);
using MemoryAttentionKernel = void (*)(const MemoryAttentionTask& task, int64_t begin, int64_t end,
                                       float* scratch);
using PanelKernel = float (*)(const float* keys, const float* values, int64_t tokens,
                              int64_t stride, int64_t head_size, float scale, float* panels);

// Attention of hypotheses over what they have written so far. Keys and values of a position stay
// where they were written: a hypothesis finds its own through its ancestors.
struct WrittenAttentionTask {
  const float* joined;  // [rows, joined_stride]: queries, keys and values of all heads side by side
  int64_t joined_stride;
  const int64_t* first_rows;        // [sentences + 1], the rows of each sentence
  float* cache;                     // of all sentences; see cache_floats
  const int64_t* offsets;           // [sentences], floats from one head's cache on to a sentence's
  const int64_t* capacities;        // [sentences], positions that a cache has room for
  const uint8_t* const* ancestors;  // [rows][position + 1], the slot of each position
  int64_t slots;                    // hypotheses of a sentence
  int64_t position;
  int64_t heads;
  int64_t head_size;
  float scale;
  float* context;  // [rows, context_stride]
  int64_t context_stride;
};

using WrittenAttentionKernel = void (*)(const WrittenAttentionTask& task, int64_t begin,
                                        int64_t end, float* scratch);

// Floats of a key in a cache: whole vectors of any instruction set.
static inline int64_t cached_size(int64_t head_size) { return (head_size + 15) / 16 * 16; }

// Floats of one head's cache of one sentence, [keys, values][position][slot][cached_size]; pairs in
// bfloat16 take half of it.
static inline int64_t cache_floats(int64_t head_size, int64_t capacity, int64_t slots) {
  return 2 * capacity * slots * cached_size(head_size);
}

// Floats of the panels of one head's keys and values of one sentence: in fp32, or in bfloat16 with
// groups that are whole tiles.
static inline int64_t panel_floats(int64_t tokens, int64_t head_size) {
  const int64_t memory = (tokens + 63) / 64 * 64, size = (head_size + 63) / 64 * 64;
  return memory * ((head_size + 15) / 16 * 16) + (tokens + 15) / 16 * 16 * size;
}

// The choice of the best outputs of each row, without writing the outputs down.
struct ChoiceTask {
  ProductTask product;  // y and residual are not used
  int64_t choices;
  int64_t forbidden;      // an output that is not chosen, or -1
  int64_t noted;          // an output whose value is written down
  float* best;            // [rows, choices], largest first; -inf where there is none
  int32_t* best_outputs;  // [rows, choices]; -1 where there is none
  float* noted_values;    // [rows]; by whoever computes its panel
  float* largest;         // [rows, tiles], the largest output of each tile of `tile_width` outputs
  float* sums;            // [rows, tiles], of e^(output - largest)
  int64_t tiles;
};

// Chooses among the panels [panel_begin, panel_end), for rows [0, rows).
using ChoiceKernel = void (*)(const ChoiceTask& task, int64_t rows, int64_t panel_begin,
                              int64_t panel_end);

// Queries whose scores stand in the cache together, at most.
inline constexpr int64_t kQueryBlock = 64;

// Floats of scratch of attend_memory for at most `slots` rows of a sentence: scores and a factor
// for each row; queries and weights in bfloat16.
static inline int64_t memory_scratch(int64_t longest, int64_t head_size, int64_t slots) {
  const int64_t memory = (longest + 63) / 64 * 64, size = (head_size + 63) / 64 * 64;
  return slots * memory + (slots + 63) / 64 * 64 + rows_with_room(slots) * (memory + size) / 2;
}

// Floats of scratch that attention over a memory of at most `longest` tokens needs on each thread.
static inline int64_t attention_scratch(int64_t longest, int64_t head_size) {
  return panel_floats(longest, head_size) + memory_scratch(longest, head_size, kQueryBlock);
}

// Floats of scratch of attend_written for at most `positions`.
static inline int64_t written_scratch(int64_t positions, int64_t head_size) {
  return 3 * cached_size(head_size) + (positions + 15) / 16 * 16;
}

struct KernelTable {
  Isa isa;
  ProductKernel product[3];  // by optops_precision

  // Rounds rows [rows, inputs] to bfloat16, [rows, stride]; zeroes what is beyond the inputs.
  void (*round_rows)(const float* x, int64_t rows, int64_t inputs, uint16_t* rounded,
                     int64_t stride);

  // Quantises rows [rows, inputs] with a scale each, to [rows, stride] values of `int8_bytes` in
  // the form that the int8 product reads; what is no input counts as 0. A row with a value that is
  // not finite gets a scale of NaN.
  void (*quantize_rows)(const float* x, int64_t rows, int64_t inputs, void* quantized,
                        int64_t stride, float* scales);
  int64_t int8_bytes;

  // Normalises x + residual, rows [rows, width], to mean 0 and variance 1, times scale plus offset,
  // each [width]; y may be x, or the residual, which may be null.
  void (*normalize_rows)(const float* x, const float* residual, int64_t rows, int64_t width,
                         const float* scale, const float* offset, float epsilon, float* y);

  // y = activation(x + bias) of rows [rows, width]; y may be x.
  void (*activate_rows)(const float* x, int64_t rows, int64_t width, const float* bias,
                        optops_activation activation, float* y);

  // Softmax of the first counts[row] of each row [rows, width], zero beyond; y may be x. `room`
  // holds a row, rounded up to a multiple of 16.
  void (*softmax_rows)(const float* x, int64_t rows, int64_t width, const int32_t* counts, float* y,
                       float* room);

  // Computes the (sentence, head) pairs [begin, end), numbered sentence * heads + head.
  AttentionKernel attend[3];  // by optops_precision of the products around it

  // Writes keys and values [tokens, stride] of one head as panels, the keys times the scale;
  // returns the square of the longest key's length, or infinity.
  PanelKernel write_panels[3];

  // As attend; scratch holds memory_scratch floats.
  MemoryAttentionKernel attend_memory[3];

  // As attend, after it has written the position's keys and values down; scratch holds
  // written_scratch floats.
  WrittenAttentionKernel attend_written[3];

  ChoiceKernel choose[3];  // by optops_precision
  int64_t tile_width;      // outputs of a tile of `choose`

  // Returns the log of the sum of e^output of a row, from its tiles.
  float (*log_sum)(const float* largest, const float* sums, int64_t tiles);
};

// The table of the best instruction set, or of the one that OPTOPS_ISA names; throws Error if it
// names none.
const KernelTable& kernels();

// The instruction sets of this build that the processor can run, best first.
const char* available_isas();

}  // namespace optops

#endif  // OPTOPS_CPU_KERNEL_TABLE_H_
