// The arrays that a caller gives for a model's weights, taken one after the other.
#ifndef OPTOPS_LAYERS_ARRAYS_H_
#define OPTOPS_LAYERS_ARRAYS_H_

#include <cstdint>

#include "core/status.h"
#include "pack/product_weights.h"

namespace optops {

class Arrays {
 public:
  Arrays(const float* const* arrays, int64_t count) : arrays_(arrays), count_(count) {}

  const float* next() {
    if (!arrays_ || at_ >= count_ || !arrays_[at_]) {
      fail(OPTOPS_INVALID, "array %lld of the weights is missing", static_cast<long long>(at_));
    }
    return arrays_[at_++];
  }

  void fill(ProductWeights& product) {
    const float* weights = next();
    product.fill(weights, next());
  }

  void fill(NormWeights& norm) {
    const float* scale = next();
    norm.fill(scale, next());
  }

  // Throws Error if arrays are left.
  void end() const {
    if (at_ != count_) {
      fail(OPTOPS_INVALID, "%lld arrays of weights are given, %lld are wanted",
           static_cast<long long>(count_), static_cast<long long>(at_));
    }
  }

 private:
  const float* const* arrays_;
  int64_t count_;
  int64_t at_ = 0;
};

}  // namespace optops

#endif  // OPTOPS_LAYERS_ARRAYS_H_
