#include "layers/translator.h"

#include <algorithm>

#include "core/status.h"

namespace optops {
namespace {

constexpr int64_t kMostPositions = 1 << 16;

// Sentences are decoded together as long as their panels and caches take no more than this, and
// they are no more rows than that: further rows bring no speed.
constexpr int64_t kMostFloats = int64_t{1} << 28;
constexpr int64_t kMostRows = 1024;

// Writes the embeddings of ids with the positions from `first` on.
void embed(const float* table, const float* positions, const int32_t* ids, int64_t count,
           int64_t width, int64_t first, float* states) {
  for (int64_t i = 0; i < count; ++i) {
    const float* embedding = table + ids[i] * width;
    const float* position = positions + (first + i) * width;
    for (int64_t at = 0; at < width; ++at) *states++ = embedding[at] + position[at];
  }
}

// Decodes sentences that fit together.
void decode_together(const Translator& translator, const float* memory, const int64_t* starts,
                     int64_t sentences, const optops_search& settings, const int32_t* limits,
                     int32_t* ids, int32_t* lengths, float* scores, int threads) {
  static thread_local BeamSearch searches;
  static thread_local DecoderState states;
  BeamSearch& search = searches;  // the caller's, whichever thread uses them
  const Kept state(states);
  const Decoder& decoder = translator.decoder;
  const KernelTable& table = kernels();
  const int64_t width = decoder.sizes.width;
  threads = threads_worth(threads, sentences * settings.beam * decoder.multiplications());
  search.start(settings, limits, sentences, translator.begin, translator.end);
  state->reserve(decoder, starts, limits, sentences, settings.beam, threads);
  parallel(threads, [&](Team& team) {
    state->remember(team, table, decoder, memory);
    for (int64_t position = 0;; ++position) {
      if (team.index() == 0) state->select(search);
      const Range rows = team.share(search.rows());
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const int32_t token = search.token(row);
        embed(translator.target_embedding, translator.position_table, &token, 1, width, position,
              state->states() + row * width);
      }
      team.barrier();
      state->step(team, table, decoder, search, position,
                  search.too_short(position) ? translator.end : -1, translator.end);
      const Found found = state->found(team.size());
      const Range mine = team.share(search.active());
      for (int64_t i = mine.begin; i < mine.end; ++i) search.take(i, position, found);
      team.barrier();
      if (team.index() == 0) search.advance(position);
      team.barrier();
      if (search.active() == 0) break;
    }
  });
  search.write(settings.capacity, translator.padding, ids, lengths, scores);
}

}  // namespace

Translator::Translator(Numbers& numbers)
    : vocabulary(numbers.next("vocabulary", 1, kMostOutputs)),
      positions(numbers.next("positions", 1, kMostPositions)),
      padding(static_cast<int32_t>(numbers.next("padding", 0, kMostOutputs))),
      begin(static_cast<int32_t>(numbers.next("begin", 0, kMostOutputs))),
      end(static_cast<int32_t>(numbers.next("end", 0, kMostOutputs))),
      shared(numbers.next("shared", 0, 1) != 0),
      encoder(numbers),
      decoder(numbers) {
  const int64_t outputs = decoder.projection.outputs;
  if (encoder.sizes.width != decoder.sizes.width) {
    fail(OPTOPS_INVALID, "the encoder is %lld wide and the decoder %lld; they must be the same",
         static_cast<long long>(encoder.sizes.width), static_cast<long long>(decoder.sizes.width));
  }
  if (begin >= outputs || end >= outputs) {
    fail(OPTOPS_INVALID, "begin is %d and end %d; they must be below the outputs, %lld", begin, end,
         static_cast<long long>(outputs));
  }
  if (shared && outputs > vocabulary) {
    fail(OPTOPS_INVALID, "the embedding is shared, but there are %lld outputs and %lld source ids",
         static_cast<long long>(outputs), static_cast<long long>(vocabulary));
  }
}

void Translator::place(Places& places) {
  const int64_t width = encoder.sizes.width;
  places.place(source_embedding, vocabulary * width);
  if (shared) {
    target_embedding = source_embedding;
  } else {
    places.place(target_embedding, decoder.projection.outputs * width);
  }
  places.place(position_table, positions * width);
  encoder.place(places);
  decoder.place(places);
}

void Translator::fill(Arrays& arrays) {
  const int64_t width = encoder.sizes.width;
  copy_finite("the source embedding", arrays.next(), vocabulary * width, source_embedding);
  const int64_t outputs = decoder.projection.outputs;
  if (!shared)
    copy_finite("the target embedding", arrays.next(), outputs * width, target_embedding);
  copy_finite("the table of positions", arrays.next(), positions * width, position_table);
  encoder.fill(arrays);
  decoder.fill(arrays);
}

std::vector<int64_t> numbers_of(const optops_translator_config& config) {
  std::vector<int64_t> numbers{config.vocabulary, config.positions, config.padding,
                               config.begin,      config.end,       config.shared_embedding};
  for (const std::vector<int64_t>& part : {numbers_of(config.encoder), numbers_of(config.decoder)})
    numbers.insert(numbers.end(), part.begin(), part.end());
  return numbers;
}

void encode(const Translator& translator, const int32_t* ids, const int64_t* starts,
            int64_t sentences, float* memory, int threads) {
  const int64_t width = translator.encoder.sizes.width;
  for (int64_t i = 0; i < sentences; ++i) {
    const int64_t at = starts[i] - starts[0];
    embed(translator.source_embedding, translator.position_table, ids + at,
          starts[i + 1] - starts[i], width, 0, memory + at * width);
  }
  run_encoder(translator.encoder, memory, starts, sentences, memory, threads);
}

void decode(const Translator& translator, const float* memory, const int64_t* starts,
            int64_t sentences, const optops_search& search, int32_t* ids, int32_t* lengths,
            float* scores, int threads) {
  for (int64_t first = 0, last = 0; first < sentences; first = last) {
    int64_t floats = 0;
    for (; last < sentences; ++last) {
      floats += DecoderState::floats(translator.decoder, starts[last + 1] - starts[last],
                                     search.limits[last], search.beam);
      const bool full = floats > kMostFloats || (last + 1 - first) * search.beam > kMostRows;
      if (full && last > first) break;
    }
    const int64_t results = first * search.results;
    const int64_t at = (starts[first] - starts[0]) * translator.decoder.sizes.width;
    decode_together(translator, memory + at, starts + first, last - first, search,
                    search.limits + first, ids + results * search.capacity, lengths + results,
                    scores + results, threads);
  }
}

void translate(const Translator& translator, const int32_t* source, const int64_t* starts,
               int64_t sentences, const optops_search& search, int32_t* ids, int32_t* lengths,
               float* scores, int threads) {
  static thread_local Scratch<float> memories;
  const Kept kept(memories);
  for (int64_t first = 0, together; first < sentences; first += together) {
    together = encoded_together(translator.encoder, starts + first, sentences - first);
    const int64_t at = starts[first] - starts[0], tokens = starts[first + together] - starts[first];
    const int64_t results = first * search.results;
    float* memory = kept->of(tokens * translator.encoder.sizes.width);
    optops_search theirs = search;
    theirs.limits += first;
    encode(translator, source + at, starts + first, together, memory, threads);
    decode(translator, memory, starts + first, together, theirs, ids + results * search.capacity,
           lengths + results, scores + results, threads);
  }
}

}  // namespace optops
