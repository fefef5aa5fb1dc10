// An encoder-decoder Transformer from token ids to token ids: embeddings, encoder, decoder, search.
#ifndef OPTOPS_LAYERS_TRANSLATOR_H_
#define OPTOPS_LAYERS_TRANSLATOR_H_

#include <cstdint>
#include <vector>

#include "layers/decoder.h"
#include "layers/encoder.h"

namespace optops {

struct Translator {
  int64_t vocabulary;  // source ids
  int64_t positions;
  int32_t padding;
  int32_t begin;
  int32_t end;
  bool shared;  // the target's embedding is the first rows of the source's
  Encoder encoder;
  Decoder decoder;
  float* source_embedding = nullptr;  // [vocabulary, width]
  float* target_embedding = nullptr;  // [outputs, width]
  float* position_table = nullptr;    // [positions, width]

  explicit Translator(Numbers& numbers);
  void place(Places& places);
  void fill(Arrays& arrays);
};

// Returns the numbers that a Translator is made from; throws Error if the config lacks an array.
std::vector<int64_t> numbers_of(const optops_translator_config& config);

// Encodes sentences of ids that stand one after the other; memory: [tokens, width]. Here and below,
// starts are as for run_encoder.
void encode(const Translator& translator, const int32_t* ids, const int64_t* starts,
            int64_t sentences, float* memory, int threads);

// Searches the best translations of encoded sentences; see optops_translator_decode.
void decode(const Translator& translator, const float* memory, const int64_t* starts,
            int64_t sentences, const optops_search& search, int32_t* ids, int32_t* lengths,
            float* scores, int threads);

// Searches the best translations of sentences of ids; see optops_translator_run.
void translate(const Translator& translator, const int32_t* source, const int64_t* starts,
               int64_t sentences, const optops_search& search, int32_t* ids, int32_t* lengths,
               float* scores, int threads);

}  // namespace optops

#endif  // OPTOPS_LAYERS_TRANSLATOR_H_
