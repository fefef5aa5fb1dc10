// Functions of tensors that models of other forms are put together from, as TensorFlow calls them.
#include <utility>

#include "operator.h"

namespace optops::tensorflow {
namespace {

// Returns an input with one value for each of `columns`.
Tensor columns_of(TF_OpKernelContext* context, int index, const char* name, int64_t columns) {
  Tensor found = input(context, index, name, 1);
  if (size(found, 0) != columns) {
    refuse("%s has %lld values for %lld columns of x", name, static_cast<long long>(size(found, 0)),
           static_cast<long long>(columns));
  }
  return found;
}

// The sizes of a sum of two tensors: the last axes stand below each other, and one of size 1 is
// repeated.
std::vector<int64_t> sizes_of_sum(const std::vector<int64_t>& one,
                                  const std::vector<int64_t>& other) {
  const auto& longer = one.size() < other.size() ? other : one;
  const auto& shorter = one.size() < other.size() ? one : other;
  std::vector<int64_t> sizes = longer;
  for (size_t i = 0; i < shorter.size(); ++i) {
    int64_t& size = sizes[longer.size() - shorter.size() + i];
    if (size != shorter[i] && size != 1 && shorter[i] != 1) {
      refuse("axes of sizes %lld and %lld can not be added", static_cast<long long>(size),
             static_cast<long long>(shorter[i]));
    }
    if (size == 1) size = shorter[i];
  }
  return sizes;
}

// How far it is from one value to the next along each axis of `sizes`; 0 where values are repeated.
std::vector<int64_t> strides_in(const std::vector<int64_t>& sizes, const Tensor& tensor) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (int axis = rank(tensor) - 1, i = static_cast<int>(sizes.size()) - 1; axis >= 0;
       --axis, --i) {
    strides[i] = size(tensor, axis) == 1 ? 0 : stride;
    stride *= size(tensor, axis);
  }
  return strides;
}

// Writes the sum of tensors that differ in shape.
void add(const Tensor& x, const Tensor& other, const std::vector<int64_t>& sizes, float* sum) {
  const std::vector<int64_t> steps = strides_in(sizes, x), other_steps = strides_in(sizes, other);
  const int last = static_cast<int>(sizes.size()) - 1;
  std::vector<int64_t> place(sizes.size());
  int64_t rows = 1;
  for (int axis = 0; axis < last; ++axis) rows *= sizes[axis];
  for (int64_t row = 0; row < rows; ++row, sum += sizes[last]) {
    const float *from = data<float>(x), *other_from = data<float>(other);
    for (int axis = 0; axis < last; ++axis) {
      from += place[axis] * steps[axis];
      other_from += place[axis] * other_steps[axis];
    }
    for (int64_t i = 0; i < sizes[last]; ++i)
      sum[i] = from[i * steps[last]] + other_from[i * other_steps[last]];
    for (int axis = last - 1; axis >= 0 && ++place[axis] == sizes[axis]; --axis) place[axis] = 0;
  }
}

// activation(x + bias), x: [..., width].
class BiasActivation {
 public:
  explicit BiasActivation(const Attributes& attributes)
      : activation_(attributes.integer("activation")), threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = rows_input(context, 0, "x");
    const Tensor bias = columns_of(context, 1, "bias", width(x));
    const Tensor y = output<float>(context, 0, sizes_of(x));
    optops_status status;
    optops_bias_activation(data<float>(x), count(x), width(x), data<float>(bias), activation_,
                           data<float>(y), threads_, &status);
    check(status);
  }

 private:
  int32_t activation_, threads_;
};

// The layer norm of x + residual, [..., width]; an empty residual stands for none.
class ResidualNorm {
 public:
  explicit ResidualNorm(const Attributes& attributes)
      : epsilon_(attributes.real("epsilon")), threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = rows_input(context, 0, "x"), residual = rows_input(context, 1, "residual");
    const std::vector<int64_t> shape = sizes_of(x), other = sizes_of(residual);
    const bool alone = other == std::vector<int64_t>{0}, alike = shape == other;
    const std::vector<int64_t> sizes = alone || alike ? shape : sizes_of_sum(shape, other);
    const Tensor scale = columns_of(context, 2, "scale", sizes.back());
    const Tensor offset = columns_of(context, 3, "offset", sizes.back());
    const Tensor y = output<float>(context, 0, sizes);
    if (!alone && !alike) add(x, residual, sizes, data<float>(y));
    optops_status status;
    optops_residual_norm(data<float>(alone || alike ? x : y),
                         alike ? data<float>(residual) : nullptr, count(y), width(y),
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
    if (width / heads_ > INT32_MAX) {
      refuse("a head of %lld is wider than any library takes",
             static_cast<long long>(width / heads_));
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
