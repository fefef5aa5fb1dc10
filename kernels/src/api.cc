// The C interface: arguments are checked here, and nothing is thrown beyond.
#include <new>

#include "core/status.h"
#include "core/thread_pool.h"
#include "cpu/kernel_table.h"
#include "layers/product.h"
#include "optops/kernels.h"
#include "pack/product_weights.h"

using optops::fail;
using optops::guarded;

struct optops_product {
  optops::ProductWeights weights;
};

namespace {

constexpr int64_t kMostRows = int64_t{1} << 28;

int threads_for(int32_t wanted) {
  if (wanted < 0)
    fail(OPTOPS_INVALID, "threads is %d; give 0 for the default, or a number above", wanted);
  return wanted ? wanted : optops::default_threads();
}

optops_precision checked_precision(int32_t precision) {
  if (precision < OPTOPS_FP32 || precision > OPTOPS_INT8) {
    fail(OPTOPS_INVALID, "precision %d is unknown", precision);
  }
  return static_cast<optops_precision>(precision);
}

optops_activation checked_activation(int32_t activation) {
  if (activation < OPTOPS_LINEAR || activation > OPTOPS_SILU) {
    fail(OPTOPS_INVALID, "activation %d is unknown", activation);
  }
  return static_cast<optops_activation>(activation);
}

}  // namespace

const char* optops_isa(void) {
  return guarded<const char*>(nullptr, "", [] { return optops::isa_name(optops::kernels().isa); });
}

const char* optops_isas(void) { return optops::available_isas(); }

int32_t optops_threads(void) { return optops::default_threads(); }

optops_product* optops_product_pack(const float* weights, const float* bias, int64_t inputs,
                                    int64_t outputs, int32_t precision, optops_status* status) {
  return guarded<optops_product*>(status, nullptr, [&] {
    return new optops_product{
        optops::pack_product(weights, bias, inputs, outputs, checked_precision(precision))};
  });
}

void optops_product_free(optops_product* product) { delete product; }

size_t optops_product_bytes(const optops_product* product) {
  if (!product) return 0;
  const optops::ProductWeights& weights = product->weights;
  return weights.panels * optops::groups(weights.inputs, weights.precision) * optops::kPanel *
         optops::kGroupBytes;
}

int32_t optops_product_run(const optops_product* product, const float* x, int64_t rows,
                           int32_t activation, const float* residual, float* y, int32_t threads,
                           optops_status* status) {
  optops_status outcome;
  guarded(&outcome, 0, [&] {
    if (!product) fail(OPTOPS_INVALID, "product_run: the product is missing");
    if (rows < 0 || rows > kMostRows) {
      fail(OPTOPS_INVALID, "product_run: %lld rows; there may be 0 to %lld",
           static_cast<long long>(rows), static_cast<long long>(kMostRows));
    }
    if (rows && (!x || !y)) fail(OPTOPS_INVALID, "product_run: x or y is missing");
    const optops_activation known = checked_activation(activation);
    if (rows)
      optops::run_product(product->weights, x, rows, known, residual, y, threads_for(threads));
    return 0;
  });
  if (status) *status = outcome;
  return outcome.code;
}
