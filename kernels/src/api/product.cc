// The C interface: products.
#include "layers/product.h"

#include "api/arguments.h"
#include "pack/product_weights.h"

using optops::BlobKind;
using optops::coded;
using optops::fail;
using optops::guarded;
using optops::Packed;
using optops::ProductWeights;

struct optops_product {
  Packed<ProductWeights> packed;
};

optops_product* optops_product_pack(const float* weights, const float* bias, int64_t inputs,
                                    int64_t outputs, int32_t precision, optops_status* status) {
  return guarded<optops_product*>(status, nullptr, [&] {
    return new optops_product{Packed<ProductWeights>::pack(
        BlobKind::kProduct, {precision, inputs, outputs},
        [&](ProductWeights& product) { product.fill(weights, bias); })};
  });
}

void optops_product_free(optops_product* product) { delete product; }

void optops_product_sizes(const optops_product* product, int64_t* sizes) {
  if (!product || !sizes) return;
  const ProductWeights& model = product->packed.model;
  sizes[0] = model.inputs;
  sizes[1] = model.outputs;
  sizes[2] = model.bytes();
}

const void* optops_product_blob(const optops_product* product, int64_t* bytes) {
  if (bytes) *bytes = product ? product->packed.block.bytes() : 0;
  return product ? product->packed.block.data() : nullptr;
}

optops_product* optops_product_open(const void* blob, int64_t bytes, optops_status* status) {
  return guarded<optops_product*>(status, nullptr, [&] {
    return new optops_product{Packed<ProductWeights>::open(BlobKind::kProduct, blob, bytes)};
  });
}

int32_t optops_product_run(const optops_product* product, const float* x, int64_t rows,
                           int32_t activation, const float* residual, float* y, int32_t threads,
                           optops_status* status) {
  return coded(status, [&] {
    if (!product) fail(OPTOPS_INVALID, "product_run: the product is missing");
    if (rows < 0 || rows > optops::kMostRows) {
      fail(OPTOPS_INVALID, "product_run: %lld rows; there may be 0 to %lld",
           static_cast<long long>(rows), static_cast<long long>(optops::kMostRows));
    }
    if (rows && (!x || !y)) fail(OPTOPS_INVALID, "product_run: x or y is missing");
    if (activation < OPTOPS_LINEAR || activation > OPTOPS_SILU)
      fail(OPTOPS_INVALID, "activation %d is unknown", activation);
    if (rows) {
      optops::run_product(product->packed.model, x, rows,
                          static_cast<optops_activation>(activation), residual, y,
                          optops::threads_for(threads));
    }
  });
}
