// A product as steps of a parallel region, and as a call of its own.
#ifndef OPTOPS_LAYERS_PRODUCT_H_
#define OPTOPS_LAYERS_PRODUCT_H_

#include <cstddef>
#include <cstdint>

#include "core/aligned.h"
#include "core/thread_pool.h"
#include "cpu/kernel_table.h"
#include "pack/product_weights.h"

namespace optops {

// Rows in the form that a precision multiplies.
struct PreparedRows {
  const void* rows;
  int64_t stride;       // elements from one row to the next
  const float* scales;  // int8: of each row
};

// A layer normalisation that rows go through before a product.
struct RowNorm {
  const NormWeights& weights;
  float epsilon;
};

// Room for rows in the form that precisions multiply.
class Activations {
 public:
  // Makes room for up to `rows` of a product; to be called before the region, for each product.
  void reserve(const ProductWeights& weights, int64_t rows, int threads);

  // Gives back what only large calls need.
  void trim(std::size_t most = kKeptBytes);

 private:
  friend PreparedRows prepare(Team&, const KernelTable&, const ProductWeights&, const float*,
                              int64_t, int64_t, const RowNorm*, Activations&);
  Scratch<uint8_t> bytes_;
  Scratch<float> scales_, normed_;
};

// Returns the floats from one row of a buffer to the next. Rows a multiple of 1 KB apart would
// share a few places in the cache, and drive each other out.
inline int64_t row_stride(int64_t width) { return width % 256 ? width : width + 16; }

// Brings rows [rows, x_stride], normalised if there is a norm, into the form that a product takes.
//
// A few rows each thread prepares for itself, for it would wait longer for the others than it
// takes; many are shared, with a barrier at the end. Either way `x` must be complete before.
PreparedRows prepare(Team& team, const KernelTable& table, const ProductWeights& weights,
                     const float* x, int64_t x_stride, int64_t rows, const RowNorm* norm,
                     Activations& activations);

// Returns the task of y = activation(x W + b) + residual over prepared rows; y and residual (which
// may be null, or y): [rows, y_stride].
ProductTask task_of(const ProductWeights& weights, const PreparedRows& x,
                    optops_activation activation, const float* residual, float* y,
                    int64_t y_stride);

// Computes a product by all threads of a team; y is complete after the barrier at its end.
void multiply(Team& team, const KernelTable& table, const ProductWeights& weights,
              const PreparedRows& x, int64_t rows, optops_activation activation,
              const float* residual, float* y, int64_t y_stride);

// y = activation(x W + b) + residual, in one call, on as many threads as pay, up to `threads`.
void run_product(const ProductWeights& weights, const float* x, int64_t rows,
                 optops_activation activation, const float* residual, float* y, int threads);

// Normalises rows [rows, stride] by all threads; complete after the barrier at its end. `to` may be
// `from`.
void normalize(Team& team, const KernelTable& table, const RowNorm& norm, const float* from,
               int64_t stride, int64_t rows, float* to);

// Returns how many of `threads` pay for a number of multiplications.
int threads_worth(int threads, int64_t multiplications);

}  // namespace optops

#endif  // OPTOPS_LAYERS_PRODUCT_H_
