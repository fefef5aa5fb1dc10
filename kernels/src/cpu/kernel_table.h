// What every instruction set provides: plain functions on one thread's share of the work.
#ifndef OPTOPS_CPU_KERNEL_TABLE_H_
#define OPTOPS_CPU_KERNEL_TABLE_H_

#include <stdint.h>

#include "core/cpu_info.h"
#include "optops/kernels.h"

namespace optops {

// A product over packed weights. Strides are in elements.
struct ProductTask {
  const void* x;            // fp32 float, bf16 uint16_t, int8 uint8_t (a + 128): [rows, x_stride]
  int64_t x_stride;         // at least the inputs, rounded up to whole groups
  const float* row_scales;  // int8: [rows]
  const uint8_t* weights;   // see pack/product_weights.h
  int64_t groups;           // of inputs
  const float* bias;        // [panels * 64]
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

// Attention of several sentences whose tokens stand one after the other, without padding. Rows hold
// all heads side by side; head h of a row starts at h * head_size. Strides are in elements.
struct AttentionTask {
  const float* queries;  // [tokens, query_stride]
  int64_t query_stride;
  const float* keys;    // [memory tokens, memory_stride]
  const float* values;  // [memory tokens, memory_stride]
  int64_t memory_stride;
  const int64_t* query_starts;   // [sentences + 1], the first token of each sentence, and the end
  const int64_t* memory_starts;  // [sentences + 1]
  int64_t heads;
  int64_t head_size;
  float scale;     // on the scores
  bool causal;     // a token sees those up to its own place alone
  float* context;  // [tokens, context_stride]
  int64_t context_stride;
};

// Queries whose scores stand in the cache together.
inline constexpr int64_t kQueryBlock = 48;

// Floats of scratch that attention over a memory of at most `longest` tokens needs on each thread.
inline int64_t attention_scratch(int64_t longest, int64_t head_size) {
  const int64_t memory = (longest + 63) / 64 * 64, size = (head_size + 63) / 64 * 64;
  return memory * head_size + memory * size + kQueryBlock * memory +
         (memory > size ? memory : size);
}

struct KernelTable {
  Isa isa;
  ProductKernel product[3];  // by optops_precision

  // Rounds rows [rows, inputs] to bfloat16, [rows, stride]; zeroes what is beyond the inputs.
  void (*round_rows)(const float* x, int64_t rows, int64_t inputs, uint16_t* rounded,
                     int64_t stride);

  // Quantises rows [rows, inputs] to a + 128 with a scale each, [rows, stride]; 128 where there is
  // no input. A row with a value that is not finite gets a scale of NaN.
  void (*quantize_rows)(const float* x, int64_t rows, int64_t inputs, uint8_t* quantized,
                        int64_t stride, float* scales);

  // Normalises rows [rows, width] to mean 0 and variance 1, times scale plus offset, each [width];
  // y may be x.
  void (*normalize_rows)(const float* x, int64_t rows, int64_t width, const float* scale,
                         const float* offset, float epsilon, float* y);

  // Computes the (sentence, head) pairs [begin, end), numbered sentence * heads + head.
  void (*attend)(const AttentionTask& task, int64_t begin, int64_t end, float* scratch);
};

// The table of the best instruction set, or of the one that OPTOPS_ISA names; throws Error if it
// names none.
const KernelTable& kernels();

// The instruction sets of this build that the processor can run, best first.
const char* available_isas();

}  // namespace optops

#endif  // OPTOPS_CPU_KERNEL_TABLE_H_
