// Functions of tensors that models of other forms are put together from, as TensorFlow calls them.
#include <utility>

#include "operator.h"

namespace optops::tensorflow {
namespace {

// Returns an input with one value for each column of x.
Tensor columns_of(TF_OpKernelContext* context, int index, const char* name, const Tensor& x) {
  Tensor found = input(context, index, name, 1);
  if (size(found, 0) != size(x, 1)) {
    refuse("%s has %lld values for %lld columns of x", name, static_cast<long long>(size(found, 0)),
           static_cast<long long>(size(x, 1)));
  }
  return found;
}

// activation(x + bias), x: [rows, width].
class BiasActivation {
 public:
  explicit BiasActivation(const Attributes& attributes)
      : activation_(attributes.integer("activation")), threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = input(context, 0, "x", 2), bias = columns_of(context, 1, "bias", x);
    const Tensor y = output<float>(context, 0, {size(x, 0), size(x, 1)});
    optops_status status;
    optops_bias_activation(data<float>(x), size(x, 0), size(x, 1), data<float>(bias), activation_,
                           data<float>(y), threads_, &status);
    check(status);
  }

 private:
  int32_t activation_, threads_;
};

// The layer norm of x + residual, [rows, width].
class ResidualNorm {
 public:
  explicit ResidualNorm(const Attributes& attributes)
      : epsilon_(attributes.real("epsilon")), threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = input(context, 0, "x", 2), residual = input(context, 1, "residual", 2);
    if (size(residual, 0) != size(x, 0) || size(residual, 1) != size(x, 1)) {
      refuse("the residual is [%lld, %lld]; x is [%lld, %lld]",
             static_cast<long long>(size(residual, 0)), static_cast<long long>(size(residual, 1)),
             static_cast<long long>(size(x, 0)), static_cast<long long>(size(x, 1)));
    }
    const Tensor scale = columns_of(context, 2, "scale", x);
    const Tensor offset = columns_of(context, 3, "offset", x);
    const Tensor y = output<float>(context, 0, {size(x, 0), size(x, 1)});
    optops_status status;
    optops_residual_norm(data<float>(x), data<float>(residual), size(x, 0), size(x, 1),
                         data<float>(scale), data<float>(offset), epsilon_, data<float>(y),
                         threads_, &status);
    check(status);
  }

 private:
  float epsilon_;
  int32_t threads_;
};

// Softmax of the first counts[row] of each row of x, [rows, width].
class MaskedSoftmax {
 public:
  explicit MaskedSoftmax(const Attributes& attributes) : threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = input(context, 0, "x", 2), counts = input(context, 1, "counts", 1);
    if (size(counts, 0) != size(x, 0)) {
      refuse("there are %lld counts for %lld rows", static_cast<long long>(size(counts, 0)),
             static_cast<long long>(size(x, 0)));
    }
    const Tensor y = output<float>(context, 0, {size(x, 0), size(x, 1)});
    optops_status status;
    optops_masked_softmax(data<float>(x), size(x, 0), size(x, 1), data<int32_t>(counts),
                          data<float>(y), threads_, &status);
    check(status);
  }

 private:
  int32_t threads_;
};

// Attention of queries [sentences, time, heads * head size] over keys and values.
class Attention {
 public:
  explicit Attention(const Attributes& attributes)
      : heads_(attributes.integer("heads")),
        causal_(attributes.integer("causal")),
        scale_(attributes.real("scale")),
        threads_(attributes.integer("threads")) {
    if (heads_ < 1) refuse("heads is %d; it must be at least 1", heads_);
  }

  void compute(TF_OpKernelContext* context) {
    const Tensor queries = input(context, 0, "queries", 3), keys = input(context, 1, "keys", 3);
    const Tensor values = input(context, 2, "values", 3), lengths = input(context, 3, "lengths", 1);
    const int64_t sentences = size(queries, 0), width = size(queries, 2);
    if (width % heads_ || width < heads_) {
      refuse("queries are %lld wide, which is no multiple of %d heads",
             static_cast<long long>(width), heads_);
    }
    for (const auto& [name, tensor] : {std::pair("keys", &keys), std::pair("values", &values)}) {
      if (size(*tensor, 0) != sentences || size(*tensor, 1) != size(keys, 1) ||
          size(*tensor, 2) != width) {
        refuse("%s are [%lld, %lld, %lld]; to the other inputs fit [%lld, %lld, %lld]", name,
               static_cast<long long>(size(*tensor, 0)), static_cast<long long>(size(*tensor, 1)),
               static_cast<long long>(size(*tensor, 2)), static_cast<long long>(sentences),
               static_cast<long long>(size(keys, 1)), static_cast<long long>(width));
      }
    }
    if (size(lengths, 0) != sentences) {
      refuse("there are %lld lengths for %lld sentences", static_cast<long long>(size(lengths, 0)),
             static_cast<long long>(sentences));
    }
    const optops_attention_config config{sentences,
                                         size(queries, 1),
                                         size(keys, 1),
                                         heads_,
                                         static_cast<int32_t>(width / heads_),
                                         causal_,
                                         scale_};
    const Tensor found = output<float>(context, 0, {sentences, size(queries, 1), width});
    optops_status status;
    optops_attention(&config, data<float>(queries), data<float>(keys), data<float>(values),
                     data<int32_t>(lengths), data<float>(found), threads_, &status);
    check(status);
  }

 private:
  int32_t heads_, causal_;
  float scale_;
  int32_t threads_;
};

const bool registered = [] {
  register_operator<BiasActivation>("OptopsBiasActivation", {"x: float", "bias: float"},
                                    {"y: float"}, {"activation: int", "threads: int = 0"});
  register_operator<ResidualNorm>("OptopsResidualNorm",
                                  {"x: float", "residual: float", "scale: float", "offset: float"},
                                  {"y: float"}, {"epsilon: float", "threads: int = 0"});
  register_operator<MaskedSoftmax>("OptopsMaskedSoftmax", {"x: float", "counts: int32"},
                                   {"y: float"}, {"threads: int = 0"});
  register_operator<Attention>(
      "OptopsAttention", {"queries: float", "keys: float", "values: float", "lengths: int32"},
      {"context: float"}, {"heads: int", "causal: int = 0", "scale: float", "threads: int = 0"});
  return true;
}();

}  // namespace
}  // namespace optops::tensorflow
