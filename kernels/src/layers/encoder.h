// A Transformer encoder in one call: all its layers in one parallel region, over sentences without
// padding.
#ifndef OPTOPS_LAYERS_ENCODER_H_
#define OPTOPS_LAYERS_ENCODER_H_

#include <cstdint>
#include <vector>

#include "layers/arrays.h"
#include "pack/product_weights.h"

namespace optops {

struct EncoderLayer {
  int64_t heads;
  NormWeights attention_norm;
  ProductWeights query_key_value;  // [width, 3 * heads * head_size]: queries, keys, values
  ProductWeights output;           // [heads * head_size, width]
  NormWeights feed_forward_norm;
  ProductWeights expand;    // [width, feed_forward]
  ProductWeights contract;  // [feed_forward, width]
};

// What the layers of an encoder or a decoder have in common.
struct StackSizes {
  int64_t width;
  int64_t head_size;
  int64_t layers;
  bool norm_first;  // pre-norm, with a last norm at the end; else each norm follows its residual
                    // sum, as in BERT
  float epsilon;
  optops_activation activation;

  explicit StackSizes(Numbers& numbers);
};

struct Encoder {
  StackSizes sizes;
  std::vector<EncoderLayer> layers;
  NormWeights last_norm;  // pre-norm

  explicit Encoder(Numbers& numbers);
  void place(Places& places);
  void fill(Arrays& arrays);
};

// Throws Error if a config has no layers, or absurdly many.
void check_layers(int64_t layers);

// Returns the numbers that an Encoder is made from; throws Error if the config lacks an array.
std::vector<int64_t> numbers_of(const optops_encoder_config& config);

// Returns how many of one or more sentences are encoded together, at least one; see run_encoder.
int64_t encoded_together(const Encoder& encoder, const int64_t* starts, int64_t sentences);

// Encodes sentences that stand one after the other, some at a time: so many sentences take no more
// memory than some do.
//
// x: [tokens, width], embedded, from the first sentence on. starts: [sentences + 1], rising from
// any number by the tokens of each sentence; none is empty. y: [tokens, width]; may be x.
void run_encoder(const Encoder& encoder, const float* x, const int64_t* starts, int64_t sentences,
                 float* y, int threads);

}  // namespace optops

#endif  // OPTOPS_LAYERS_ENCODER_H_
