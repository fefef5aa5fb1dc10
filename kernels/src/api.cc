// The C interface: arguments are checked here, and nothing is thrown beyond.
#include <cmath>
#include <cstring>
#include <new>

#include "core/status.h"
#include "core/thread_pool.h"
#include "cpu/kernel_table.h"
#include "layers/encoder.h"
#include "layers/product.h"
#include "optops/kernels.h"
#include "pack/product_weights.h"

using optops::fail;
using optops::guarded;

struct optops_product {
  optops::ProductWeights weights;
};

struct optops_encoder {
  optops::Encoder encoder;
};

namespace {

constexpr int64_t kMostRows = int64_t{1} << 28;
constexpr int64_t kLongestSentence = 65536;
constexpr int64_t kMostUnits = 1 << 16;
constexpr int64_t kMostLayers = 1024;

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

int64_t checked_size(const char* name, int64_t value, int64_t most) {
  if (value < 1 || value > most) {
    fail(OPTOPS_INVALID, "encoder: %s is %lld; it may be 1 to %lld", name,
         static_cast<long long>(value), static_cast<long long>(most));
  }
  return value;
}

// Gives the arrays of an encoder one after the other.
class Arrays {
 public:
  Arrays(const float* const* arrays, int64_t count) : arrays_(arrays), count_(count) {}

  const float* next() {
    if (!arrays_ || at_ >= count_ || !arrays_[at_]) {
      fail(OPTOPS_INVALID, "encoder: array %lld of its weights is missing",
           static_cast<long long>(at_));
    }
    return arrays_[at_++];
  }

  optops::ProductWeights product(int64_t inputs, int64_t outputs, optops_precision precision) {
    const float* weights = next();
    return optops::pack_product(weights, next(), inputs, outputs, precision);
  }

  optops::NormWeights norm(int64_t width) {
    const auto copy = [width](const float* from) {
      for (int64_t i = 0; i < width; ++i) {
        if (!std::isfinite(from[i]))
          fail(OPTOPS_INVALID, "encoder: a norm holds %f", static_cast<double>(from[i]));
      }
      auto to = optops::allocate<float>(width);
      std::memcpy(to.get(), from, width * sizeof(float));
      return to;
    };
    auto scale = copy(next());
    return {std::move(scale), copy(next())};
  }

  void end() const {
    if (at_ != count_) {
      fail(OPTOPS_INVALID, "encoder: %lld arrays of weights are given, %lld are wanted",
           static_cast<long long>(count_), static_cast<long long>(at_));
    }
  }

 private:
  const float* const* arrays_;
  int64_t count_;
  int64_t at_ = 0;
};

optops::Encoder pack_encoder(const optops_encoder_config& config, Arrays arrays) {
  optops::Encoder encoder;
  encoder.width = checked_size("width", config.width, kMostUnits);
  encoder.head_size = checked_size("head_size", config.head_size, kMostUnits);
  encoder.norm_first = config.norm_first != 0;
  encoder.epsilon = config.epsilon;
  if (!(config.epsilon > 0 && config.epsilon < 1)) {
    fail(OPTOPS_INVALID, "encoder: epsilon is %f; it must be above 0 and below 1",
         static_cast<double>(config.epsilon));
  }
  encoder.activation = checked_activation(config.activation);
  const optops_precision precision = checked_precision(config.precision);
  const int64_t layers = checked_size("layers", config.layers, kMostLayers);
  if (!config.heads || !config.feed_forward)
    fail(OPTOPS_INVALID, "encoder: heads or feed_forward are missing");
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t heads = checked_size("heads of a layer", config.heads[i], kMostUnits);
    const int64_t units =
        checked_size("feed_forward of a layer", config.feed_forward[i], kMostUnits);
    const int64_t inner =
        checked_size("heads times head_size", heads * encoder.head_size, kMostUnits);
    optops::EncoderLayer layer;
    layer.heads = heads;
    layer.attention_norm = arrays.norm(encoder.width);
    layer.query_key_value = arrays.product(encoder.width, 3 * inner, precision);
    layer.output = arrays.product(inner, encoder.width, precision);
    layer.feed_forward_norm = arrays.norm(encoder.width);
    layer.expand = arrays.product(encoder.width, units, precision);
    layer.contract = arrays.product(units, encoder.width, precision);
    encoder.layers.push_back(std::move(layer));
  }
  if (encoder.norm_first) encoder.last_norm = arrays.norm(encoder.width);
  arrays.end();
  return encoder;
}

void check_starts(const int64_t* starts, int64_t sentences) {
  if (sentences < 0 || sentences > kMostRows) {
    fail(OPTOPS_INVALID, "encoder_run: %lld sentences; there may be 0 to %lld",
         static_cast<long long>(sentences), static_cast<long long>(kMostRows));
  }
  if (!starts) fail(OPTOPS_INVALID, "encoder_run: starts are missing");
  if (starts[0] != 0) fail(OPTOPS_INVALID, "encoder_run: the first sentence must start at 0");
  for (int64_t i = 0; i < sentences; ++i) {
    // Unsigned, because a hostile difference must not overflow.
    const uint64_t length = static_cast<uint64_t>(starts[i + 1]) - static_cast<uint64_t>(starts[i]);
    if (length < 1 || length > static_cast<uint64_t>(kLongestSentence)) {
      fail(OPTOPS_INVALID,
           "encoder_run: sentence %lld starts at %lld and ends at %lld; it may have 1 to %lld "
           "tokens",
           static_cast<long long>(i), static_cast<long long>(starts[i]),
           static_cast<long long>(starts[i + 1]), static_cast<long long>(kLongestSentence));
    }
  }
  if (starts[sentences] > kMostRows) fail(OPTOPS_INVALID, "encoder_run: too many tokens");
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

optops_encoder* optops_encoder_pack(const optops_encoder_config* config,
                                    const float* const* weights, int64_t count,
                                    optops_status* status) {
  return guarded<optops_encoder*>(status, nullptr, [&] {
    if (!config) fail(OPTOPS_INVALID, "encoder: the config is missing");
    return new optops_encoder{pack_encoder(*config, Arrays(weights, count))};
  });
}

void optops_encoder_free(optops_encoder* encoder) { delete encoder; }

int32_t optops_encoder_run(const optops_encoder* encoder, const float* x, const int64_t* starts,
                           int64_t sentences, float* y, int32_t threads, optops_status* status) {
  optops_status outcome;
  guarded(&outcome, 0, [&] {
    if (!encoder) fail(OPTOPS_INVALID, "encoder_run: the encoder is missing");
    check_starts(starts, sentences);
    if (sentences && (!x || !y)) fail(OPTOPS_INVALID, "encoder_run: x or y is missing");
    if (sentences)
      optops::run_encoder(encoder->encoder, x, starts, sentences, y, threads_for(threads));
    return 0;
  });
  if (status) *status = outcome;
  return outcome.code;
}
