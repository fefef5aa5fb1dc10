// Whole models, and the products that they are made of, as TensorFlow calls them. Weights come as
// one block of bytes, so that they can be a variable.
#include <algorithm>

#include "operator.h"

namespace optops::tensorflow {
namespace {

// y = activation(x W + b), x: [..., inputs].
class Dense {
 public:
  explicit Dense(const Attributes& attributes)
      : activation_(attributes.integer("activation")), threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = rows_input(context, 0, "x"), block = input(context, 1, "weights", 1);
    const auto product = weights_.of(block);
    int64_t sizes[3];
    optops_product_sizes(product.get(), sizes);
    if (width(x) != sizes[0]) {
      refuse("x has %lld columns; the weights take %lld", static_cast<long long>(width(x)),
             static_cast<long long>(sizes[0]));
    }
    std::vector<int64_t> shape = sizes_of(x);
    shape.back() = sizes[1];
    const Tensor y = output<float>(context, 0, shape);
    optops_status status;
    optops_product_run(product.get(), data<float>(x), count(x), activation_, nullptr,
                       data<float>(y), threads_, &status);
    check(status);
  }

 private:
  int32_t activation_, threads_;
  Weights<optops_product> weights_{optops_product_open, optops_product_free};
};

// Encodes states [sentences, time, width].
class Encode {
 public:
  explicit Encode(const Attributes& attributes) : threads_(attributes.integer("threads")) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor x = input(context, 0, "x", 3), block = input(context, 2, "weights", 1);
    const auto encoder = weights_.of(block);
    int64_t width;
    optops_encoder_sizes(encoder.get(), &width);
    if (size(x, 2) != width) {
      refuse("x is %lld wide; the weights take %lld", static_cast<long long>(size(x, 2)),
             static_cast<long long>(width));
    }
    if (size(x, 1) == 0) {  // then no sentence has a length
      output<float>(context, 0, {size(x, 0), 0, width});
      return;
    }
    const Sentences sentences(context, 1, size(x, 0), size(x, 1));
    std::vector<float> rows = sentences.without_padding(data<float>(x), width);
    optops_status status;
    optops_encoder_run(encoder.get(), rows.data(), sentences.starts(), sentences.count(),
                       rows.data(), threads_, &status);
    check(status);
    const Tensor y = output<float>(context, 0, {size(x, 0), size(x, 1), width});
    sentences.with_padding(rows.data(), width, data<float>(y));
  }

 private:
  int32_t threads_;
  Weights<optops_encoder> weights_{optops_encoder_open, optops_encoder_free};
};

// What translating and decoding share: the search and its results.
class Search {
 public:
  explicit Search(const Attributes& attributes)
      : beam_(attributes.integer("beam")),
        results_(attributes.integer("results")),
        minimum_length_(attributes.integer("minimum_length")),
        length_penalty_(attributes.real("length_penalty")),
        threads_(attributes.integer("threads")) {}

  // Runs `function(search, ids, lengths, scores, threads, status)`, and writes its outputs.
  template <typename Function>
  void compute(TF_OpKernelContext* context, const optops_translator* translator, int limits_index,
               int64_t sentences, Function&& function) const {
    const Tensor limits = input(context, limits_index, "limits", 1);
    if (size(limits, 0) != sentences) {
      refuse("there are %lld limits for %lld sentences", static_cast<long long>(size(limits, 0)),
             static_cast<long long>(sentences));
    }
    const int32_t* most = data<int32_t>(limits);
    const int32_t capacity = sentences ? *std::max_element(most, most + sentences) : 0;
    const optops_search search{beam_, results_, minimum_length_, length_penalty_, most, capacity};
    optops_status status;
    // Before there is any room for results: the search says how much there has to be.
    optops_translator_check(translator, &search, sentences, &status);
    check(status);
    const Tensor counts = output<int32_t>(context, 1, {sentences, results_});
    const Tensor scores = output<float>(context, 2, {sentences, results_});
    std::vector<int32_t> ids(sentences * results_ * capacity);
    function(search, ids.data(), data<int32_t>(counts), data<float>(scores), threads_, &status);
    check(status);
    const int32_t* lengths = data<int32_t>(counts);
    const int64_t rows = sentences * results_;
    const int32_t longest = rows ? *std::max_element(lengths, lengths + rows) : 0;
    const Tensor found = output<int32_t>(context, 0, {sentences, results_, longest});
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(data<int32_t>(found) + row * longest, ids.data() + row * capacity,
                  longest * sizeof(int32_t));
    }
  }

 private:
  int32_t beam_, results_, minimum_length_;
  float length_penalty_;
  int32_t threads_;
};

// Translates ids [sentences, time].
class Translate {
 public:
  explicit Translate(const Attributes& attributes) : search_(attributes) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor ids = input(context, 0, "ids", 2), block = input(context, 3, "weights", 1);
    const auto translator = weights_.of(block);
    const Sentences sentences(context, 1, size(ids, 0), size(ids, 1));
    const std::vector<int32_t> source = sentences.without_padding(data<int32_t>(ids), 1);
    search_.compute(context, translator.get(), 2, sentences.count(),
                    [&](const optops_search& search, auto... rest) {
                      optops_translator_run(translator.get(), source.data(), sentences.starts(),
                                            sentences.count(), &search, rest...);
                    });
  }

 private:
  Search search_;
  Weights<optops_translator> weights_{optops_translator_open, optops_translator_free};
};

// Translates encoded sentences [sentences, time, width].
class Decode {
 public:
  explicit Decode(const Attributes& attributes) : search_(attributes) {}

  void compute(TF_OpKernelContext* context) {
    const Tensor memory = input(context, 0, "memory", 3), block = input(context, 3, "weights", 1);
    const auto translator = weights_.of(block);
    int64_t sizes[4];
    optops_translator_sizes(translator.get(), sizes);
    if (size(memory, 2) != sizes[0]) {
      refuse("memory is %lld wide; the weights take %lld", static_cast<long long>(size(memory, 2)),
             static_cast<long long>(sizes[0]));
    }
    const Sentences sentences(context, 1, size(memory, 0), size(memory, 1));
    const std::vector<float> rows = sentences.without_padding(data<float>(memory), sizes[0]);
    search_.compute(context, translator.get(), 2, sentences.count(),
                    [&](const optops_search& search, auto... rest) {
                      optops_translator_decode(translator.get(), rows.data(), sentences.starts(),
                                               sentences.count(), &search, rest...);
                    });
  }

 private:
  Search search_;
  Weights<optops_translator> weights_{optops_translator_open, optops_translator_free};
};

// TensorFlow loads the library and takes what is registered then.
const bool registered = [] {
  register_operator<Dense>("OptopsDense", {"x: float", "weights: uint8"}, {"y: float"},
                           {"activation: int = 0", "threads: int = 0"});
  register_operator<Encode>("OptopsEncode", {"x: float", "lengths: int32", "weights: uint8"},
                            {"y: float"}, {"threads: int = 0"});
  const auto searched = {"ids: int32", "counts: int32", "scores: float"};
  const auto how = {"beam: int", "results: int = 1", "minimum_length: int = 0",
                    "length_penalty: float", "threads: int = 0"};
  register_operator<Translate>(
      "OptopsTranslate", {"source: int32", "lengths: int32", "limits: int32", "weights: uint8"},
      searched, how);
  register_operator<Decode>("OptopsDecode",
                            {"memory: float", "lengths: int32", "limits: int32", "weights: uint8"},
                            searched, how);
  return true;
}();

}  // namespace
}  // namespace optops::tensorflow
