// A product as callers see it: rows in, rows out, on as many threads as pay.
#ifndef OPTOPS_LAYERS_PRODUCT_H_
#define OPTOPS_LAYERS_PRODUCT_H_

#include <cstdint>

#include "pack/product_weights.h"

namespace optops {

// y = activation(x W + b) + residual; see optops_product_run.
void run_product(const ProductWeights& weights, const float* x, int64_t rows,
                 optops_activation activation, const float* residual, float* y, int threads);

}  // namespace optops

#endif  // OPTOPS_LAYERS_PRODUCT_H_
