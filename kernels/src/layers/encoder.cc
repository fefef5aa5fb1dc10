#include "layers/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "layers/product.h"

namespace optops {
namespace {

// What one call needs beside its input and output; kept by the calling thread for the next one.
struct Workspace {
  Scratch<float> normed, wide, context, attention;
  Activations activations;

  void reserve(const Encoder& encoder, int64_t tokens, int64_t longest, int threads) {
    int64_t widest = 1, most_heads = 1;
    for (const EncoderLayer& layer : encoder.layers) {
      widest = std::max({widest, layer.query_key_value.outputs, layer.expand.outputs});
      most_heads = std::max(most_heads, layer.heads);
      for (const ProductWeights* product :
           {&layer.query_key_value, &layer.output, &layer.expand, &layer.contract}) {
        activations.reserve(*product, tokens);
      }
    }
    normed.of(tokens * encoder.width);
    wide.of(tokens * widest);
    context.of(tokens * most_heads * encoder.head_size);
    attention.of(threads * attention_scratch(longest, encoder.head_size));
  }
};

// One call on its way through the layers.
struct Call {
  const Encoder& encoder;
  const KernelTable& table;
  const int64_t* starts;
  int64_t sentences;
  int64_t tokens;
  int64_t scratch;  // floats per thread for attention
  float* states;    // [tokens, width]
  Workspace& room;

  void normalize(Team& team, const NormWeights& norm, const float* from, float* to) const {
    const Range mine = team.share(tokens);
    table.normalize_rows(from + mine.begin * encoder.width, mine.end - mine.begin, encoder.width,
                         norm.scale.get(), norm.offset.get(), encoder.epsilon,
                         to + mine.begin * encoder.width);
    team.barrier();
  }

  void attend(Team& team, const EncoderLayer& layer) const {
    const int64_t part = layer.heads * encoder.head_size;
    const float* joined = room.wide.of(0);
    const AttentionTask task{joined,
                             3 * part,
                             joined + part,
                             joined + 2 * part,
                             3 * part,
                             starts,
                             starts,
                             layer.heads,
                             encoder.head_size,
                             1.0F / std::sqrt(static_cast<float>(encoder.head_size)),
                             false,
                             room.context.of(0),
                             part};
    const Range mine = team.share(sentences * layer.heads);
    table.attend(task, mine.begin, mine.end, room.attention.of(0) + team.index() * scratch);
    team.barrier();
  }

  void run_layer(Team& team, const EncoderLayer& layer) const {
    float *normed = room.normed.of(0), *wide = room.wide.of(0), *context = room.context.of(0);
    const auto step = [&](const ProductWeights& weights, const float* from,
                          optops_activation activation, const float* residual, float* to) {
      product_step(team, table, weights, from, tokens, activation, residual, to, room.activations);
    };
    const float* input = states;
    if (encoder.norm_first) {
      normalize(team, layer.attention_norm, states, normed);
      input = normed;
    }
    step(layer.query_key_value, input, OPTOPS_LINEAR, nullptr, wide);
    attend(team, layer);
    step(layer.output, context, OPTOPS_LINEAR, states, states);
    if (encoder.norm_first) {
      normalize(team, layer.feed_forward_norm, states, normed);
    } else {
      normalize(team, layer.attention_norm, states, states);
    }
    step(layer.expand, input, encoder.activation, nullptr, wide);
    step(layer.contract, wide, OPTOPS_LINEAR, states, states);
    if (!encoder.norm_first) normalize(team, layer.feed_forward_norm, states, states);
  }
};

}  // namespace

void run_encoder(const Encoder& encoder, const float* x, const int64_t* starts, int64_t sentences,
                 float* y, int threads) {
  const int64_t tokens = starts[sentences];
  int64_t longest = 1, weights = 0;
  for (int64_t i = 0; i < sentences; ++i) longest = std::max(longest, starts[i + 1] - starts[i]);
  for (const EncoderLayer& layer : encoder.layers) {
    for (const ProductWeights* product :
         {&layer.query_key_value, &layer.output, &layer.expand, &layer.contract}) {
      weights += product->inputs * product->outputs;
    }
  }
  const KernelTable& table = kernels();
  threads = threads_worth(threads, tokens * weights);
  static thread_local Workspace workspace;
  Workspace& room = workspace;  // the caller's, whichever thread uses it
  room.reserve(encoder, tokens, longest, threads);
  if (x != y) std::memcpy(y, x, tokens * encoder.width * sizeof(float));
  const Call call{encoder,   table,  starts,
                  sentences, tokens, attention_scratch(longest, encoder.head_size),
                  y,         room};
  parallel(threads, [&](Team& team) {
    for (const EncoderLayer& layer : encoder.layers) call.run_layer(team, layer);
    if (encoder.norm_first) call.normalize(team, encoder.last_norm, y, y);
  });
}

}  // namespace optops
