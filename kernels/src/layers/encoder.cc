#include "layers/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <vector>

#include "layers/division.h"
#include "layers/product.h"

namespace optops {
namespace {

constexpr int64_t kMostLayers = 1024;
constexpr int kProducts = 4;  // of a layer

// Sentences are encoded together as long as what stands between two products takes no more floats
// than this: further rows bring no speed.
constexpr int64_t kMostFloats = int64_t{1} << 27;

// Bytes of a layer's weights, and of what stands between two products, that a thread's second cache
// has room for.
constexpr int64_t kCacheShare = int64_t{1} << 20;

// Floats of a token between two products, as they stand in memory.
struct Widest {
  int64_t wide = 1;     // queries, keys and values, or hidden units
  int64_t context = 1;  // what attention saw

  explicit Widest(const Encoder& encoder) {
    for (const EncoderLayer& layer : encoder.layers) {
      wide = std::max(
          {wide, row_stride(layer.query_key_value.outputs), row_stride(layer.expand.outputs)});
      context = std::max(context, row_stride(layer.output.inputs));
    }
  }
};

// What one call needs beside its input and output; kept by the calling thread for the next one.
struct Workspace {
  Scratch<float> wide, context, attention;
  Activations activations;

  void reserve(const Encoder& encoder, int64_t tokens, int64_t longest, int threads) {
    const Widest widest(encoder);
    for (const EncoderLayer& layer : encoder.layers) {
      for (const ProductWeights* product :
           {&layer.query_key_value, &layer.output, &layer.expand, &layer.contract}) {
        activations.reserve(*product, tokens, threads);
      }
    }
    wide.of(tokens * widest.wide);
    context.of(tokens * widest.context);
    attention.of(threads * attention_scratch(longest, encoder.sizes.head_size));
  }

  // Gives back what only large calls need.
  void trim(std::size_t most) {
    for (auto* each : {&wide, &context, &attention}) each->trim(most);
    activations.trim(most);
  }
};

// One for each part of the sentences of a call.
struct Workspaces {
  std::deque<Workspace> rooms;

  void trim() {
    for (Workspace& room : rooms) room.trim(kKeptBytes / rooms.size());
  }
};

// Some sentences on their way through the layers.
struct Call {
  const Encoder& encoder;
  const KernelTable& table;
  std::vector<int64_t> starts;  // the first is 0
  int64_t tokens;
  int64_t scratch;  // floats per thread for attention
  float* states;    // [tokens, width]
  Workspace& room;

  void attend(Team& team, const EncoderLayer& layer) const {
    const int64_t head_size = encoder.sizes.head_size, part = layer.heads * head_size;
    const float* joined = room.wide.of(0);
    const int64_t stride = row_stride(3 * part);
    const AttentionTask task{.queries = joined,
                             .query_stride = stride,
                             .keys = joined + part,
                             .values = joined + 2 * part,
                             .memory_stride = stride,
                             .query_starts = starts.data(),
                             .query_ends = starts.data() + 1,
                             .memory_starts = starts.data(),
                             .memory_ends = starts.data() + 1,
                             .heads = layer.heads,
                             .head_size = head_size,
                             .scale = 1.0F / std::sqrt(static_cast<float>(head_size)),
                             .causal = false,
                             .context = room.context.of(0),
                             .context_stride = row_stride(part)};
    const auto sentences = static_cast<int64_t>(starts.size()) - 1;
    const Range mine = team.share(sentences * layer.heads);
    table.attend[layer.query_key_value.precision](task, mine.begin, mine.end,
                                                  room.attention.of(0) + team.index() * scratch);
    team.barrier();
  }

  void run_layer(Team& team, const EncoderLayer& layer) const {
    float *wide = room.wide.of(0), *context = room.context.of(0);
    const bool norm_first = encoder.sizes.norm_first;
    const RowNorm attention_norm{layer.attention_norm, encoder.sizes.epsilon};
    const RowNorm feed_forward_norm{layer.feed_forward_norm, encoder.sizes.epsilon};
    const int64_t width = encoder.sizes.width;
    const auto enter = [&](const ProductWeights& weights, const RowNorm& norm,
                           optops_activation activation) {
      const PreparedRows x = prepare(team, table, weights, states, width, tokens,
                                     norm_first ? &norm : nullptr, room.activations);
      multiply(team, table, weights, x, tokens, activation, nullptr, wide,
               row_stride(weights.outputs));
    };
    const auto leave = [&](const ProductWeights& weights, const float* from, const RowNorm& norm) {
      const PreparedRows x = prepare(team, table, weights, from, row_stride(weights.inputs), tokens,
                                     nullptr, room.activations);
      multiply(team, table, weights, x, tokens, OPTOPS_LINEAR, states, states, width);
      if (!norm_first) normalize(team, table, norm, states, width, tokens, states);
    };
    enter(layer.query_key_value, attention_norm, OPTOPS_LINEAR);
    attend(team, layer);
    leave(layer.output, context, attention_norm);
    enter(layer.expand, feed_forward_norm, encoder.sizes.activation);
    leave(layer.contract, wide, feed_forward_norm);
  }

  void finish(Team& team) const {
    if (encoder.sizes.norm_first) {
      normalize(team, table, {encoder.last_norm, encoder.sizes.epsilon}, states,
                encoder.sizes.width, tokens, states);
    }
  }
};

// Takes calls through all layers, each layer by all of them: its weights come from the nearest
// cache from the second on.
void run(Team& team, const std::vector<Call>& calls, const Encoder& encoder) {
  for (const EncoderLayer& layer : encoder.layers) {
    for (const Call& call : calls) call.run_layer(team, layer);
  }
  for (const Call& call : calls) call.finish(team);
}

EncoderWork work_of(const Encoder& encoder) {
  EncoderWork work{};
  for (const EncoderLayer& layer : encoder.layers) {
    for (const ProductWeights* product :
         {&layer.query_key_value, &layer.output, &layer.expand, &layer.contract}) {
      work.weights += product->inputs * product->outputs;
      work.weight_bytes += product->bytes();
    }
    work.attended += 2 * layer.heads * encoder.sizes.head_size;
  }
  return work;
}

// Returns how many tokens go through a layer together, on each of `threads`: so many that what
// stands between two products stays in a cache, where a layer's weights fit in beside it. Else all:
// weights that come from further away for each group of tokens cost more than this saves.
int64_t tokens_at_once(const Encoder& encoder, int64_t layer_bytes, int threads) {
  const Widest widest(encoder);
  const int64_t token = sizeof(float) * (widest.wide + widest.context + encoder.sizes.width);
  return layer_bytes > kCacheShare ? INT64_MAX : threads * kCacheShare / token;
}

// Makes the calls of sentences, whose states are in y.
std::vector<Call> calls_of(const Encoder& encoder, const int64_t* starts, int64_t sentences,
                           int64_t most, float* y, int threads, Workspace& room) {
  std::vector<Call> calls;
  for (int64_t first = 0, end; first < sentences; first = end) {
    end = first + 1;
    int64_t longest = starts[end] - starts[first];
    for (; end < sentences && starts[end + 1] - starts[first] <= most; ++end)
      longest = std::max(longest, starts[end + 1] - starts[end]);
    std::vector<int64_t> own{0};
    for (int64_t i = first; i < end; ++i) own.push_back(starts[i + 1] - starts[first]);
    room.reserve(encoder, own.back(), longest, threads);
    const int64_t scratch = attention_scratch(longest, encoder.sizes.head_size);
    calls.push_back({encoder, kernels(), own, own.back(), scratch,
                     y + (starts[first] - starts[0]) * encoder.sizes.width, room});
  }
  return calls;
}

// Encodes sentences that there is room for.
void encode_together(const Encoder& encoder, const float* x, const int64_t* starts,
                     int64_t sentences, float* y, int threads, Workspaces& workspaces) {
  const int64_t tokens = starts[sentences] - starts[0], width = encoder.sizes.width;
  const EncoderWork work = work_of(encoder);
  threads = threads_worth(threads, tokens * work.weights);
  if (x != y) std::memcpy(y, x, tokens * width * sizeof(float));
  const std::vector<int64_t> firsts = divide(starts, sentences, work, threads);
  const auto parts = static_cast<int64_t>(firsts.size()) - 1;
  const int of_part = parts > 1 ? 1 : threads;
  const int64_t most = tokens_at_once(
      encoder, work.weight_bytes / static_cast<int64_t>(encoder.layers.size()), of_part);
  workspaces.rooms.resize(parts);
  std::vector<std::vector<Call>> calls;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t* from = starts + firsts[i];
    calls.push_back(calls_of(encoder, from, firsts[i + 1] - firsts[i], most,
                             y + (*from - starts[0]) * width, of_part, workspaces.rooms[i]));
  }
  parallel(threads, [&](Team& team) {
    if (parts == 1) return run(team, calls[0], encoder);
    Team alone(0, 1, nullptr);
    const Range mine = team.share(parts);
    for (int64_t i = mine.begin; i < mine.end; ++i) run(alone, calls[i], encoder);
  });
}

}  // namespace

StackSizes::StackSizes(Numbers& numbers)
    : width(numbers.next("width", 1, kWidestLayer)),
      head_size(numbers.next("head_size", 1, kWidestLayer)),
      layers(numbers.next("layers", 1, kMostLayers)),
      norm_first(numbers.next("norm_first", 0, 1) != 0),
      epsilon(numbers.next_float("epsilon")),
      activation(
          static_cast<optops_activation>(numbers.next("activation", OPTOPS_LINEAR, OPTOPS_SILU))) {
  if (!(epsilon > 0)) {
    fail(OPTOPS_INVALID, "epsilon is %g; it must be above 0", static_cast<double>(epsilon));
  }
}

Encoder::Encoder(Numbers& numbers) : sizes(numbers) {
  const int64_t width = sizes.width, most_heads = kWidestLayer / sizes.head_size;
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const int64_t heads = numbers.next("heads of a layer", 1, most_heads);
    const int64_t units = numbers.next("feed_forward of a layer", 1, kWidestLayer);
    const int64_t inner = heads * sizes.head_size;
    const auto product = [&](int64_t inputs, int64_t outputs) {
      return ProductWeights(inputs, outputs, next_precision(numbers));
    };
    // Braces evaluate from left to right, which is the order of the precisions.
    layers.push_back(EncoderLayer{heads, NormWeights{width}, product(width, 3 * inner),
                                  product(inner, width), NormWeights{width}, product(width, units),
                                  product(units, width)});
  }
  last_norm.width = sizes.norm_first ? width : 0;
}

void Encoder::place(Places& places) {
  for (EncoderLayer& layer : layers) {
    layer.attention_norm.place(places);
    layer.query_key_value.place(places);
    layer.output.place(places);
    layer.feed_forward_norm.place(places);
    layer.expand.place(places);
    layer.contract.place(places);
  }
  last_norm.place(places);
}

void Encoder::fill(Arrays& arrays) {
  for (EncoderLayer& layer : layers) {
    arrays.fill(layer.attention_norm);
    arrays.fill(layer.query_key_value);
    arrays.fill(layer.output);
    arrays.fill(layer.feed_forward_norm);
    arrays.fill(layer.expand);
    arrays.fill(layer.contract);
  }
  if (sizes.norm_first) arrays.fill(last_norm);
}

void check_layers(int64_t layers) {
  if (layers < 1 || layers > kMostLayers) {
    fail(OPTOPS_INVALID, "layers is %lld; it may be 1 to %lld", static_cast<long long>(layers),
         static_cast<long long>(kMostLayers));
  }
}

std::vector<int64_t> numbers_of(const optops_encoder_config& config) {
  std::vector<int64_t> numbers{config.width,      config.head_size,          config.layers,
                               config.norm_first, number_of(config.epsilon), config.activation};
  check_layers(config.layers);
  if (!config.heads || !config.feed_forward)
    fail(OPTOPS_INVALID, "heads or feed_forward are missing");
  for (int32_t i = 0; i < config.layers; ++i) {
    numbers.push_back(config.heads[i]);
    numbers.push_back(config.feed_forward[i]);
    for (int product = 0; product < kProducts; ++product) {
      numbers.push_back(config.precisions ? config.precisions[kProducts * i + product]
                                          : config.precision);
    }
  }
  return numbers;
}

int64_t encoded_together(const Encoder& encoder, const int64_t* starts, int64_t sentences) {
  const Widest widest(encoder);
  const int64_t most = kMostFloats / (widest.wide + widest.context);
  int64_t together = 1;
  while (together < sentences && starts[together + 1] - starts[0] <= most) ++together;
  return together;
}

void run_encoder(const Encoder& encoder, const float* x, const int64_t* starts, int64_t sentences,
                 float* y, int threads) {
  static thread_local Workspaces workspaces;  // the caller's, whichever thread uses them
  for (int64_t first = 0, together; first < sentences; first += together) {
    const Kept kept(workspaces);
    together = encoded_together(encoder, starts + first, sentences - first);
    const int64_t at = (starts[first] - starts[0]) * encoder.sizes.width;
    encode_together(encoder, x + at, starts + first, together, y + at, threads, *kept);
  }
}

}  // namespace optops
