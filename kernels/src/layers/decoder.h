// The layers of a Transformer decoder, one position at a time, over a cache of what came before.
#ifndef OPTOPS_LAYERS_DECODER_H_
#define OPTOPS_LAYERS_DECODER_H_

#include <cstdint>
#include <vector>

#include "layers/beam_search.h"
#include "layers/encoder.h"
#include "layers/product.h"

namespace optops {

struct DecoderLayer {
  int64_t self_heads;
  int64_t cross_heads;
  NormWeights self_norm;
  ProductWeights query_key_value;  // [width, 3 * self_heads * head_size]
  ProductWeights self_output;      // [self_heads * head_size, width]
  NormWeights cross_norm;
  ProductWeights cross_query;      // [width, cross_heads * head_size]
  ProductWeights cross_key_value;  // [width, 2 * cross_heads * head_size], of the memory
  ProductWeights cross_output;     // [cross_heads * head_size, width]
  NormWeights feed_forward_norm;
  ProductWeights expand;    // [width, feed_forward]
  ProductWeights contract;  // [feed_forward, width]
};

struct Decoder {
  StackSizes sizes;
  std::vector<DecoderLayer> layers;
  NormWeights last_norm;      // pre-norm
  ProductWeights projection;  // [width, outputs]

  explicit Decoder(Numbers& numbers);
  void place(Places& places);
  void fill(Arrays& arrays);

  // Multiplications of one row and one position.
  int64_t multiplications() const;
};

// Returns the numbers that a Decoder is made from; throws Error if the config lacks an array.
std::vector<int64_t> numbers_of(const optops_decoder_config& config);

// The sentences that are decoded together: their memories, stored as attention reads them, and the
// caches of their hypotheses.
class DecoderState {
 public:
  // Makes room. starts [sentences + 1], of the tokens of their memories; capacities [sentences],
  // positions.
  void reserve(const Decoder& decoder, const int64_t* starts, const int32_t* capacities,
               int64_t sentences, int64_t slots, int threads);

  // Floats that a sentence needs in panels and caches.
  static int64_t floats(const Decoder& decoder, int64_t tokens, int64_t capacity, int64_t slots);

  // Computes keys and values of the memory [tokens, width]; by all threads of a team.
  void remember(Team& team, const KernelTable& table, const Decoder& decoder, const float* memory);

  // Says which sentences are still decoded; by one thread.
  void select(const BeamSearch& search);

  // Runs a position of all rows through the layers, from states [rows, width] and into them, and
  // finds the best outputs; by all threads of a team. `forbidden` is an output or -1; the value of
  // the output `noted` is written down.
  void step(Team& team, const KernelTable& table, const Decoder& decoder, const BeamSearch& search,
            int64_t position, int64_t forbidden, int64_t noted);

  float* states() { return states_.of(0); }
  Found found(int threads);

  // Gives back what only large calls need.
  void trim();

 private:
  int64_t tokens_ = 0, slots_ = 0, most_rows_ = 0, choices_ = 0, tiles_ = 0, scratch_floats_ = 0;
  std::vector<int64_t> starts_, all_capacities_, all_cache_offsets_, all_panel_offsets_;
  // Of the sentences that are still decoded.
  std::vector<int64_t> lengths_, capacities_, cache_offsets_, panel_offsets_;
  std::vector<int64_t> layer_caches_, layer_panels_;  // where a layer's floats start
  Scratch<float> caches_{Pages::kSmall};  // most translations end long before their limit
  Scratch<float> panels_, states_, wide_, context_, attention_;
  Scratch<float> values_, ends_, log_sums_, largest_, sums_;
  Scratch<int32_t> outputs_;
  Activations activations_;
};

}  // namespace optops

#endif  // OPTOPS_LAYERS_DECODER_H_
