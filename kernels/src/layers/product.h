// A product as a step of a parallel region, and as a call of its own.
#ifndef OPTOPS_LAYERS_PRODUCT_H_
#define OPTOPS_LAYERS_PRODUCT_H_

#include <cstdint>

#include "core/thread_pool.h"
#include "cpu/kernel_table.h"
#include "pack/product_weights.h"

namespace optops {

// Room for activations in the form that a precision multiplies.
class Activations {
 public:
  // Makes room for rows of a product; to be called before the region, with the largest of its
  // products.
  void reserve(const ProductWeights& weights, int64_t rows);

  uint8_t* bytes() { return bytes_.of(0); }
  float* scales() { return scales_.of(0); }

 private:
  Scratch<uint8_t> bytes_;
  Scratch<float> scales_;
};

// y = activation(x W + b) + residual, computed by all threads of a team; y is complete after the
// barrier at its end. x: [rows, inputs]. y and residual: [rows, outputs]; residual may be null, or
// y.
void product_step(Team& team, const KernelTable& table, const ProductWeights& weights,
                  const float* x, int64_t rows, optops_activation activation, const float* residual,
                  float* y, Activations& activations);

// The same on as many threads as pay, up to `threads`.
void run_product(const ProductWeights& weights, const float* x, int64_t rows,
                 optops_activation activation, const float* residual, float* y, int threads);

// Returns how many of `threads` pay for a number of multiplications.
int threads_worth(int threads, int64_t multiplications);

}  // namespace optops

#endif  // OPTOPS_LAYERS_PRODUCT_H_
