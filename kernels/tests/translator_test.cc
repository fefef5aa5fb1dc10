// Tests of the translator behind the C interface; that it is right is tested from Python, against
// float64.
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "expect.h"
#include "optops/kernels.h"

namespace {

using optops::tests::expect;
using optops::tests::random_values;

// As in encoder_test.cc.
constexpr int32_t kHeads[] = {65, 64}, kCrossHeads[] = {3, 64}, kUnits[] = {24, 40};
constexpr int32_t kWidth = 20, kHeadSize = 4, kVocabulary = 90, kOutputs = 70, kPositions = 30;
constexpr int32_t kCapacity = 20;

struct Weights {
  std::vector<std::vector<float>> arrays;

  void product(int32_t inputs, int32_t outputs) {
    arrays.push_back(random_values(inputs * outputs, arrays.size()));
    arrays.push_back(random_values(outputs, arrays.size()));
  }

  void norm() { product(1, kWidth); }

  Weights() {
    for (int32_t rows : {kVocabulary, kOutputs, kPositions})
      arrays.push_back(random_values(rows * kWidth, arrays.size()));
    for (int layer = 0; layer < 2; ++layer) {
      const int32_t inner = kHeads[layer] * kHeadSize, units = kUnits[layer];
      norm();
      product(kWidth, 3 * inner);
      product(inner, kWidth);
      norm();
      product(kWidth, units);
      product(units, kWidth);
    }
    norm();
    for (int layer = 0; layer < 2; ++layer) {
      const int32_t own = kHeads[layer] * kHeadSize, cross = kCrossHeads[layer] * kHeadSize;
      norm();
      product(kWidth, 3 * own);
      product(own, kWidth);
      norm();
      product(kWidth, cross);
      product(kWidth, 2 * cross);
      product(cross, kWidth);
      norm();
      product(kWidth, kUnits[layer]);
      product(kUnits[layer], kWidth);
    }
    norm();
    product(kWidth, kOutputs);
  }

  optops_translator* pack(const optops_translator_config& config, optops_status* status) const {
    std::vector<const float*> pointers;
    for (const auto& array : arrays) pointers.push_back(array.data());
    return optops_translator_pack(&config, pointers.data(), static_cast<int64_t>(pointers.size()),
                                  status);
  }
};

optops_translator_config config_of(int32_t precision) {
  optops_translator_config config{};
  config.encoder = {kWidth, kHeadSize, 2,           kHeads,    kUnits,
                    1,      1e-6F,     OPTOPS_RELU, precision, nullptr};
  config.decoder = {kWidth, kHeadSize, 2,           kHeads,   kCrossHeads, kUnits,
                    1,      1e-6F,     OPTOPS_RELU, kOutputs, precision,   nullptr};
  config.vocabulary = kVocabulary;
  config.positions = kPositions;
  config.begin = 1;
  config.end = 2;
  return config;
}

struct Results {
  std::vector<int32_t> ids, lengths;
  std::vector<float> scores;

  explicit Results(int64_t count) : ids(count * kCapacity), lengths(count), scores(count) {}
  bool operator==(const Results&) const = default;
};

const std::vector<int32_t> kLimits(5, kCapacity);
const std::vector<int64_t> kStarts{0, 1, 20, 21, 50, 58};

optops_search search_of(int32_t beam) { return {beam, 1, 0, 0.6F, kLimits.data(), kCapacity}; }

std::vector<int32_t> some_ids() {
  std::vector<int32_t> ids(58);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(7 * i % kVocabulary);
  return ids;
}

void many_callers_translate_alike() {
  const Weights weights;
  const auto ids = some_ids();
  for (int32_t precision : {OPTOPS_FP32, OPTOPS_BF16, OPTOPS_INT8}) {
    optops_status status;
    optops_translator* translator = weights.pack(config_of(precision), &status);
    expect(translator, status.message);
    const optops_search search = search_of(3);
    Results expected(5);
    expect(optops_translator_run(translator, ids.data(), kStarts.data(), 5, &search,
                                 expected.ids.data(), expected.lengths.data(),
                                 expected.scores.data(), 1, nullptr) == OPTOPS_OK,
           "it can be run");
    for (int32_t length : expected.lengths)
      expect(length >= 1 && length <= kCapacity, "every sentence has a translation");
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&, i] {
        Results found(5);
        optops_translator_run(translator, ids.data(), kStarts.data(), 5, &search, found.ids.data(),
                              found.lengths.data(), found.scores.data(), 1 + i, nullptr);
        expect(found == expected, "any number of threads gives the same");
      });
    }
    for (std::thread& caller : callers) caller.join();
    int64_t bytes = 0;
    const void* blob = optops_translator_blob(translator, &bytes);
    optops_translator* again = optops_translator_open(blob, bytes, &status);
    expect(again, "a block opens where it lies");
    Results found(5);
    optops_translator_run(again, ids.data(), kStarts.data(), 5, &search, found.ids.data(),
                          found.lengths.data(), found.scores.data(), 2, nullptr);
    expect(found == expected, "and translates the same");
    optops_translator_free(again);
    optops_translator_free(translator);
  }
}

void hostile_configs_are_refused() {
  const Weights weights;
  optops_status status;
  const auto refused = [&](const optops_translator_config& config, const char* what) {
    expect(!weights.pack(config, &status) && status.code == OPTOPS_INVALID, what);
  };
  auto bad = config_of(OPTOPS_FP32);
  bad.vocabulary = 0;
  refused(bad, "no vocabulary");
  bad = config_of(OPTOPS_FP32);
  bad.positions = INT32_MAX;
  refused(bad, "absurd positions");
  bad = config_of(OPTOPS_FP32);
  bad.end = kOutputs;
  refused(bad, "an end that can not be written");
  bad = config_of(OPTOPS_FP32);
  bad.begin = -1;
  refused(bad, "a negative begin");
  bad = config_of(OPTOPS_FP32);
  bad.decoder.width = 24;
  refused(bad, "two widths");
  bad = config_of(OPTOPS_FP32);
  bad.decoder.layers = INT32_MAX;
  refused(bad, "absurdly many layers");
  bad = config_of(OPTOPS_FP32);
  bad.decoder.cross_heads = nullptr;
  refused(bad, "heads that are nowhere");
  bad = config_of(OPTOPS_FP32);
  bad.decoder.precision = 3;
  refused(bad, "no such precision");
  expect(!optops_translator_pack(nullptr, nullptr, 0, &status), "no config");
}

void hostile_calls_are_refused() {
  const Weights weights;
  optops_translator* translator = weights.pack(config_of(OPTOPS_INT8), nullptr);
  Results results(5);
  const auto run = [&](const std::vector<int32_t>& ids, const std::vector<int64_t>& starts,
                       const optops_search& search) {
    return optops_translator_run(
        translator, ids.data(), starts.data(), static_cast<int64_t>(starts.size()) - 1, &search,
        results.ids.data(), results.lengths.data(), results.scores.data(), 1, nullptr);
  };
  const auto ids = some_ids();
  expect(run(ids, kStarts, search_of(4)) == OPTOPS_OK, "a good call");
  expect(run(ids, {0}, search_of(4)) == OPTOPS_OK, "no sentences are no error");
  auto foreign = ids;
  foreign[57] = kVocabulary;
  expect(run(foreign, kStarts, search_of(4)) == OPTOPS_INVALID, "an id that is not there");
  foreign[57] = INT32_MIN;
  expect(run(foreign, kStarts, search_of(4)) == OPTOPS_INVALID, "a negative id");
  expect(run(ids, {0, 31}, search_of(4)) == OPTOPS_INVALID, "longer than the positions");
  expect(run(ids, {0, 0}, search_of(4)) == OPTOPS_INVALID, "an empty sentence");
  for (int32_t beam : {INT32_MIN, 0, 256, INT32_MAX})
    expect(run(ids, kStarts, search_of(beam)) == OPTOPS_INVALID, "an absurd beam");
  auto search = search_of(4);
  search.results = 5;
  expect(run(ids, kStarts, search) == OPTOPS_INVALID, "more results than the beam");
  search = search_of(4);
  search.capacity = kCapacity - 1;
  expect(run(ids, kStarts, search) == OPTOPS_INVALID, "limits beyond the capacity");
  expect(optops_translator_check(translator, &search, 5, nullptr) == OPTOPS_INVALID,
         "also before there is room");
  expect(optops_translator_check(nullptr, &search, 5, nullptr) == OPTOPS_INVALID, "no translator");
  search = search_of(4);
  expect(optops_translator_check(translator, &search, -1, nullptr) == OPTOPS_INVALID,
         "fewer sentences than none");
  optops_translator_sizes(nullptr, nullptr);
  expect(optops_translator_blob(translator, nullptr) != nullptr, "a block whose size is not asked");
  search = search_of(4);
  expect(optops_translator_check(translator, &search, 5, nullptr) == OPTOPS_OK, "a good search");
  search = search_of(4);
  search.limits = nullptr;
  expect(run(ids, kStarts, search) == OPTOPS_INVALID, "no limits");
  search = search_of(4);
  search.length_penalty = INFINITY;
  expect(run(ids, kStarts, search) == OPTOPS_INVALID, "an infinite penalty");
  search = search_of(4);
  search.minimum_length = INT32_MAX;
  expect(run(ids, kStarts, search) == OPTOPS_OK, "a least length beyond every limit");
  // A beam as wide as the outputs, and wider.
  expect(run(ids, kStarts, search_of(255)) == OPTOPS_OK, "the widest beam");
  optops_translator_free(translator);
  optops_translator_free(nullptr);
}

}  // namespace

int main() {
  many_callers_translate_alike();
  hostile_configs_are_refused();
  hostile_calls_are_refused();
  return optops::tests::outcome();
}
