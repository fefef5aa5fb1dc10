#include "layers/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace optops {
namespace {

constexpr int kProducts = 7;  // of a layer

template <typename LayerType>
auto products_of(LayerType& layer) {
  return std::array{&layer.query_key_value, &layer.self_output,  &layer.cross_query,
                    &layer.cross_key_value, &layer.cross_output, &layer.expand,
                    &layer.contract};
}

}  // namespace

Decoder::Decoder(Numbers& numbers)
    : sizes(numbers), projection([&] {
        const int64_t outputs = numbers.next("outputs", 1, kMostOutputs);
        return ProductWeights(sizes.width, outputs, next_precision(numbers));
      }()) {
  const int64_t width = sizes.width, most_heads = kWidestLayer / sizes.head_size;
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const int64_t self_heads = numbers.next("self_heads of a layer", 1, most_heads);
    const int64_t cross_heads = numbers.next("cross_heads of a layer", 1, most_heads);
    const int64_t units = numbers.next("feed_forward of a layer", 1, kWidestLayer);
    const int64_t self = self_heads * sizes.head_size, cross = cross_heads * sizes.head_size;
    const auto product = [&](int64_t inputs, int64_t outputs) {
      return ProductWeights(inputs, outputs, next_precision(numbers));
    };
    // Braces evaluate from left to right, which is the order of the precisions.
    layers.push_back(DecoderLayer{
        self_heads, cross_heads, NormWeights{width}, product(width, 3 * self), product(self, width),
        NormWeights{width}, product(width, cross), product(width, 2 * cross), product(cross, width),
        NormWeights{width}, product(width, units), product(units, width)});
  }
  last_norm.width = sizes.norm_first ? width : 0;
}

void Decoder::place(Places& places) {
  for (DecoderLayer& layer : layers) {
    for (NormWeights* norm : {&layer.self_norm, &layer.cross_norm, &layer.feed_forward_norm})
      norm->place(places);
    for (ProductWeights* product : products_of(layer)) product->place(places);
  }
  last_norm.place(places);
  projection.place(places);
}

void Decoder::fill(Arrays& arrays) {
  for (DecoderLayer& layer : layers) {
    arrays.fill(layer.self_norm);
    arrays.fill(layer.query_key_value);
    arrays.fill(layer.self_output);
    arrays.fill(layer.cross_norm);
    arrays.fill(layer.cross_query);
    arrays.fill(layer.cross_key_value);
    arrays.fill(layer.cross_output);
    arrays.fill(layer.feed_forward_norm);
    arrays.fill(layer.expand);
    arrays.fill(layer.contract);
  }
  if (sizes.norm_first) arrays.fill(last_norm);
  arrays.fill(projection);
}

int64_t Decoder::multiplications() const {
  int64_t total = projection.inputs * projection.outputs;
  for (const DecoderLayer& layer : layers) {
    for (const ProductWeights* product : products_of(layer)) {
      if (product != &layer.cross_key_value) total += product->inputs * product->outputs;
    }
  }
  return total;
}

std::vector<int64_t> numbers_of(const optops_decoder_config& config) {
  check_layers(config.layers);
  if (!config.self_heads || !config.cross_heads || !config.feed_forward)
    fail(OPTOPS_INVALID, "self_heads, cross_heads or feed_forward are missing");
  const auto precision = [&](int32_t product) -> int64_t {
    return config.precisions ? config.precisions[product] : config.precision;
  };
  std::vector<int64_t> numbers{config.width,
                               config.head_size,
                               config.layers,
                               config.norm_first,
                               number_of(config.epsilon),
                               config.activation,
                               config.outputs,
                               precision(kProducts * config.layers)};
  for (int32_t i = 0; i < config.layers; ++i) {
    numbers.push_back(config.self_heads[i]);
    numbers.push_back(config.cross_heads[i]);
    numbers.push_back(config.feed_forward[i]);
    for (int product = 0; product < kProducts; ++product)
      numbers.push_back(precision(kProducts * i + product));
  }
  return numbers;
}

int64_t DecoderState::floats(const Decoder& decoder, int64_t tokens, int64_t capacity,
                             int64_t slots) {
  const int64_t head_size = decoder.sizes.head_size;
  int64_t total = 0;
  for (const DecoderLayer& layer : decoder.layers) {
    total += layer.self_heads * cache_floats(head_size, capacity, slots) +
             layer.cross_heads * panel_floats(tokens, head_size);
  }
  return total;
}

void DecoderState::reserve(const Decoder& decoder, const int64_t* starts, const int32_t* capacities,
                           int64_t sentences, int64_t slots, int threads) {
  const KernelTable& table = kernels();
  const int64_t head_size = decoder.sizes.head_size, width = decoder.sizes.width;
  tokens_ = starts[sentences] - starts[0];
  slots_ = slots;
  most_rows_ = sentences * slots;
  choices_ = 2 * slots;
  tiles_ = (decoder.projection.outputs + table.tile_width - 1) / table.tile_width;
  starts_.clear();
  all_capacities_.clear();
  all_cache_offsets_.clear();
  all_panel_offsets_.clear();
  int64_t cache = 0, panels = 0, longest = 1, most_positions = 1;
  for (int64_t i = 0; i <= sentences; ++i) starts_.push_back(starts[i] - starts[0]);
  for (int64_t i = 0; i < sentences; ++i) {
    const int64_t length = starts[i + 1] - starts[i];
    all_capacities_.push_back(capacities[i]);
    all_cache_offsets_.push_back(cache);
    all_panel_offsets_.push_back(panels);
    cache += cache_floats(head_size, capacities[i], slots);
    panels += panel_floats(length, head_size);
    longest = std::max(longest, length);
    most_positions = std::max<int64_t>(most_positions, capacities[i]);
  }
  layer_caches_.assign(1, 0);
  layer_panels_.assign(1, 0);
  const int64_t rows = most_rows_;
  int64_t widest = 1, widest_context = 1;
  for (const DecoderLayer& layer : decoder.layers) {
    layer_caches_.push_back(layer_caches_.back() + layer.self_heads * cache);
    layer_panels_.push_back(layer_panels_.back() + layer.cross_heads * panels);
    for (const ProductWeights* product :
         {&layer.query_key_value, &layer.expand, &layer.cross_query})
      widest = std::max(widest, rows * row_stride(product->outputs));
    widest = std::max(widest, tokens_ * row_stride(layer.cross_key_value.outputs));
    widest_context = std::max({widest_context, row_stride(layer.self_output.inputs),
                               row_stride(layer.cross_output.inputs)});
    for (const ProductWeights* product : products_of(layer)) {
      activations_.reserve(*product, product == &layer.cross_key_value ? tokens_ : rows, threads);
    }
  }
  activations_.reserve(decoder.projection, rows, threads);
  caches_.of(layer_caches_.back());
  panels_.of(layer_panels_.back());
  states_.of(rows * width);
  wide_.of(widest);
  context_.of(rows * widest_context);
  scratch_floats_ = cached_size(std::max(memory_scratch(longest, head_size, slots),
                                         written_scratch(most_positions, head_size)));
  attention_.of(threads * scratch_floats_);
  values_.of(threads * rows * choices_);
  outputs_.of(threads * rows * choices_);
  ends_.of(rows);
  log_sums_.of(rows);
  largest_.of(rows * tiles_);
  sums_.of(rows * tiles_);
  for (auto* list : {&lengths_, &capacities_, &cache_offsets_, &panel_offsets_})
    list->reserve(sentences);
}

void DecoderState::remember(Team& team, const KernelTable& table, const Decoder& decoder,
                            const float* memory) {
  const int64_t head_size = decoder.sizes.head_size;
  const auto sentences = static_cast<int64_t>(all_capacities_.size());
  for (size_t i = 0; i < decoder.layers.size(); ++i) {
    const DecoderLayer& layer = decoder.layers[i];
    float* joined = wide_.of(0);
    const PreparedRows x = prepare(team, table, layer.cross_key_value, memory, decoder.sizes.width,
                                   tokens_, nullptr, activations_);
    const int64_t stride = row_stride(layer.cross_key_value.outputs);
    multiply(team, table, layer.cross_key_value, x, tokens_, OPTOPS_LINEAR, nullptr, joined,
             stride);
    const int64_t part = layer.cross_heads * head_size;
    const Range mine = team.share(sentences * layer.cross_heads);
    for (int64_t item = mine.begin; item < mine.end; ++item) {
      const int64_t sentence = item / layer.cross_heads, head = item % layer.cross_heads;
      const int64_t tokens = starts_[sentence + 1] - starts_[sentence];
      const float* keys = joined + starts_[sentence] * stride + head * head_size;
      float* to = panels_.of(0) + layer_panels_[i] +
                  layer.cross_heads * all_panel_offsets_[sentence] +
                  head * panel_floats(tokens, head_size);
      table.write_panels[layer.cross_key_value.precision](
          keys, keys + part, tokens, stride, head_size,
          1.0F / std::sqrt(static_cast<float>(head_size)), to);
    }
    team.barrier();
  }
}

void DecoderState::select(const BeamSearch& search) {
  for (auto* list : {&lengths_, &capacities_, &cache_offsets_, &panel_offsets_}) list->clear();
  for (int64_t i = 0; i < search.active(); ++i) {
    const int64_t sentence = search.sentence(i);
    lengths_.push_back(starts_[sentence + 1] - starts_[sentence]);
    capacities_.push_back(all_capacities_[sentence]);
    cache_offsets_.push_back(all_cache_offsets_[sentence]);
    panel_offsets_.push_back(all_panel_offsets_[sentence]);
  }
}

void DecoderState::step(Team& team, const KernelTable& table, const Decoder& decoder,
                        const BeamSearch& search, int64_t position, int64_t forbidden,
                        int64_t noted) {
  const StackSizes& sizes = decoder.sizes;
  const int64_t rows = search.rows(), active = search.active(), head_size = sizes.head_size;
  float *states = states_.of(0), *wide = wide_.of(0), *context = context_.of(0);
  float* scratch = attention_.of(0) + team.index() * scratch_floats_;
  const auto enter = [&](const ProductWeights& weights, const NormWeights& norm,
                         optops_activation activation) {
    const RowNorm before{norm, sizes.epsilon};
    const PreparedRows x = prepare(team, table, weights, states, sizes.width, rows,
                                   sizes.norm_first ? &before : nullptr, activations_);
    multiply(team, table, weights, x, rows, activation, nullptr, wide, row_stride(weights.outputs));
  };
  const auto leave = [&](const ProductWeights& weights, const float* from,
                         const NormWeights& norm) {
    const PreparedRows x = prepare(team, table, weights, from, row_stride(weights.inputs), rows,
                                   nullptr, activations_);
    multiply(team, table, weights, x, rows, OPTOPS_LINEAR, states, states, sizes.width);
    if (!sizes.norm_first)
      normalize(team, table, {norm, sizes.epsilon}, states, sizes.width, rows, states);
  };
  for (size_t i = 0; i < decoder.layers.size(); ++i) {
    const DecoderLayer& layer = decoder.layers[i];
    const int64_t self = layer.self_heads * head_size, cross = layer.cross_heads * head_size;

    enter(layer.query_key_value, layer.self_norm, OPTOPS_LINEAR);
    const WrittenAttentionTask written{.joined = wide,
                                       .joined_stride = row_stride(3 * self),
                                       .first_rows = search.first_rows(),
                                       .cache = caches_.of(0) + layer_caches_[i],
                                       .offsets = cache_offsets_.data(),
                                       .capacities = capacities_.data(),
                                       .ancestors = search.ancestors(),
                                       .slots = slots_,
                                       .position = position,
                                       .heads = layer.self_heads,
                                       .head_size = head_size,
                                       .scale = 1.0F / std::sqrt(static_cast<float>(head_size)),
                                       .context = context,
                                       .context_stride = row_stride(self)};
    const Range own = team.share(active * layer.self_heads);
    table.attend_written[layer.query_key_value.precision](written, own.begin, own.end, scratch);
    team.barrier();
    leave(layer.self_output, context, layer.self_norm);

    enter(layer.cross_query, layer.cross_norm, OPTOPS_LINEAR);
    const MemoryAttentionTask memory{.queries = wide,
                                     .query_stride = row_stride(cross),
                                     .first_rows = search.first_rows(),
                                     .panels = panels_.of(0) + layer_panels_[i],
                                     .offsets = panel_offsets_.data(),
                                     .tokens = lengths_.data(),
                                     .heads = layer.cross_heads,
                                     .head_size = head_size,
                                     .context = context,
                                     .context_stride = row_stride(cross)};
    const Range source = team.share(active * layer.cross_heads);
    table.attend_memory[layer.cross_key_value.precision](memory, source.begin, source.end, scratch);
    team.barrier();
    leave(layer.cross_output, context, layer.cross_norm);

    enter(layer.expand, layer.feed_forward_norm, sizes.activation);
    leave(layer.contract, wide, layer.feed_forward_norm);
  }

  const ProductWeights& projection = decoder.projection;
  const RowNorm last{decoder.last_norm, sizes.epsilon};
  const PreparedRows x = prepare(team, table, projection, states, sizes.width, rows,
                                 sizes.norm_first ? &last : nullptr, activations_);
  const int64_t list = team.index() * most_rows_ * choices_;
  const ChoiceTask task{task_of(projection, x, OPTOPS_LINEAR, nullptr, nullptr, 0),
                        choices_,
                        forbidden,
                        noted,
                        values_.of(0) + list,
                        outputs_.of(0) + list,
                        ends_.of(0),
                        largest_.of(0),
                        sums_.of(0),
                        tiles_};
  const Range panels = team.share(projection.panels);
  table.choose[projection.precision](task, rows, panels.begin, panels.end);
  team.barrier();
  const Range mine = team.share(rows);
  for (int64_t row = mine.begin; row < mine.end; ++row) {
    log_sums_.of(0)[row] =
        table.log_sum(largest_.of(0) + row * tiles_, sums_.of(0) + row * tiles_, tiles_);
  }
  team.barrier();
}

Found DecoderState::found(int threads) {
  return {threads,        choices_,        most_rows_, values_.of(0),
          outputs_.of(0), log_sums_.of(0), ends_.of(0)};
}

void DecoderState::trim() {
  for (auto* each : {&caches_, &panels_, &states_, &wide_, &context_, &attention_, &values_, &ends_,
                     &log_sums_, &largest_, &sums_})
    each->trim();
  outputs_.trim();
  activations_.trim();
}

}  // namespace optops
