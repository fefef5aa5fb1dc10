// The C interface: translators.
#include "layers/translator.h"

#include <cmath>

#include "api/arguments.h"

using optops::Arrays;
using optops::BlobKind;
using optops::coded;
using optops::fail;
using optops::guarded;
using optops::Packed;
using optops::Translator;

struct optops_translator {
  Packed<Translator> packed;
};

namespace {

// The slots of a beam are bytes.
constexpr int32_t kWidestBeam = 255;
// With it the longest translation's score is divided by 1.6e20, which leaves a float room on either
// side for every probability.
constexpr float kLargestPenalty = 5.0F;

const Translator& checked(const optops_translator* translator) {
  if (!translator) fail(OPTOPS_INVALID, "the translator is missing");
  return translator->packed.model;
}

void check_search(const Translator& translator, const optops_search* search, int64_t sentences) {
  optops::check_sentences(sentences);
  if (!search) fail(OPTOPS_INVALID, "the search is missing");
  if (search->beam < 1 || search->beam > kWidestBeam)
    fail(OPTOPS_INVALID, "beam is %d; it may be 1 to %d", search->beam, kWidestBeam);
  if (search->results < 1 || search->results > search->beam) {
    fail(OPTOPS_INVALID, "results is %d; it may be 1 to the beam, %d", search->results,
         search->beam);
  }
  if (!(std::fabs(search->length_penalty) <= kLargestPenalty)) {
    fail(OPTOPS_INVALID, "length_penalty is %g; it may be %g to %g",
         static_cast<double>(search->length_penalty), static_cast<double>(-kLargestPenalty),
         static_cast<double>(kLargestPenalty));
  }
  if (sentences && !search->limits) fail(OPTOPS_INVALID, "limits are missing");
  for (int64_t i = 0; i < sentences; ++i) {
    if (search->limits[i] < 1 || search->limits[i] > translator.positions) {
      fail(OPTOPS_INVALID,
           "the limit of sentence %lld is %d; it may be 1 to the model's positions, %lld",
           static_cast<long long>(i), search->limits[i],
           static_cast<long long>(translator.positions));
    }
    if (search->limits[i] > search->capacity) {
      fail(OPTOPS_INVALID, "the limit of sentence %lld is %d; a row of results holds %d",
           static_cast<long long>(i), search->limits[i], search->capacity);
    }
  }
}

void check_ids(const Translator& translator, const int32_t* ids, int64_t tokens) {
  if (tokens && !ids) fail(OPTOPS_INVALID, "ids are missing");
  for (int64_t i = 0; i < tokens; ++i) {
    if (ids[i] < 0 || ids[i] >= translator.vocabulary) {
      fail(OPTOPS_INVALID, "token %lld is %d; ids may be 0 to %lld", static_cast<long long>(i),
           ids[i], static_cast<long long>(translator.vocabulary - 1));
    }
  }
}

void check_results(int64_t sentences, const int32_t* ids, const int32_t* lengths,
                   const float* scores) {
  if (sentences && (!ids || !lengths || !scores))
    fail(OPTOPS_INVALID, "ids, lengths or scores are missing");
}

}  // namespace

optops_translator* optops_translator_pack(const optops_translator_config* config,
                                          const float* const* weights, int64_t count,
                                          optops_status* status) {
  return guarded<optops_translator*>(status, nullptr, [&] {
    if (!config) fail(OPTOPS_INVALID, "translator: the config is missing");
    Arrays arrays(weights, count);
    return new optops_translator{Packed<Translator>::pack(
        BlobKind::kTranslator, optops::numbers_of(*config), [&](Translator& translator) {
          translator.fill(arrays);
          arrays.end();
        })};
  });
}

void optops_translator_free(optops_translator* translator) { delete translator; }

const void* optops_translator_blob(const optops_translator* translator, int64_t* bytes) {
  if (bytes) *bytes = translator ? translator->packed.block.bytes() : 0;
  return translator ? translator->packed.block.data() : nullptr;
}

optops_translator* optops_translator_open(const void* blob, int64_t bytes, optops_status* status) {
  return guarded<optops_translator*>(status, nullptr, [&] {
    return new optops_translator{Packed<Translator>::open(BlobKind::kTranslator, blob, bytes)};
  });
}

void optops_translator_sizes(const optops_translator* translator, int64_t* sizes) {
  if (!translator || !sizes) return;
  const Translator& model = translator->packed.model;
  sizes[0] = model.encoder.sizes.width;
  sizes[1] = model.vocabulary;
  sizes[2] = model.decoder.projection.outputs;
  sizes[3] = model.positions;
}

int32_t optops_translator_check(const optops_translator* translator, const optops_search* search,
                                int64_t sentences, optops_status* status) {
  return coded(status, [&] { check_search(checked(translator), search, sentences); });
}

int32_t optops_translator_encode(const optops_translator* translator, const int32_t* ids,
                                 const int64_t* starts, int64_t sentences, float* memory,
                                 int32_t threads, optops_status* status) {
  return coded(status, [&] {
    const Translator& model = checked(translator);
    optops::check_starts(starts, sentences, model.positions);
    check_ids(model, ids, starts[sentences]);
    if (!sentences) return;
    if (!memory) fail(OPTOPS_INVALID, "memory is missing");
    optops::encode(model, ids, starts, sentences, memory, optops::threads_for(threads));
  });
}

int32_t optops_translator_decode(const optops_translator* translator, const float* memory,
                                 const int64_t* starts, int64_t sentences,
                                 const optops_search* search, int32_t* ids, int32_t* lengths,
                                 float* scores, int32_t threads, optops_status* status) {
  return coded(status, [&] {
    const Translator& model = checked(translator);
    optops::check_starts(starts, sentences, optops::kLongestSentence);
    check_search(model, search, sentences);
    check_results(sentences, ids, lengths, scores);
    if (sentences && !memory) fail(OPTOPS_INVALID, "memory is missing");
    optops::decode(model, memory, starts, sentences, *search, ids, lengths, scores,
                   optops::threads_for(threads));
  });
}

int32_t optops_translator_run(const optops_translator* translator, const int32_t* source,
                              const int64_t* starts, int64_t sentences, const optops_search* search,
                              int32_t* ids, int32_t* lengths, float* scores, int32_t threads,
                              optops_status* status) {
  return coded(status, [&] {
    const Translator& model = checked(translator);
    optops::check_starts(starts, sentences, model.positions);
    check_ids(model, source, starts[sentences]);
    check_search(model, search, sentences);
    check_results(sentences, ids, lengths, scores);
    if (!sentences) return;
    optops::translate(model, source, starts, sentences, *search, ids, lengths, scores,
                      optops::threads_for(threads));
  });
}
