// Tests of the encoder behind the C interface; that it is right is tested from Python, against
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

// Rows of 64 heads are kept further apart than those of 65: room must be for the stride, not the
// width.
constexpr int32_t kHeads[] = {65, 64}, kUnits[] = {24, 40};
constexpr int32_t kWidth = 20, kHeadSize = 4;

// The weights of a small pre-norm encoder.
struct Weights {
  std::vector<std::vector<float>> arrays;

  Weights() {
    for (int layer = 0; layer < 2; ++layer) {
      const size_t inner = kHeads[layer] * kHeadSize, units = kUnits[layer];
      for (size_t size : {size_t{kWidth}, size_t{kWidth}, kWidth * 3 * inner, 3 * inner,
                          inner * kWidth, size_t{kWidth}, size_t{kWidth}, size_t{kWidth},
                          kWidth * units, units, units * kWidth, size_t{kWidth}}) {
        arrays.push_back(random_values(size, arrays.size()));
      }
    }
    for (int i = 0; i < 2; ++i) arrays.push_back(random_values(kWidth, arrays.size()));
  }

  std::vector<const float*> pointers() const {
    std::vector<const float*> found;
    for (const auto& array : arrays) found.push_back(array.data());
    return found;
  }
};

optops_encoder_config config_of(int32_t precision) {
  return {kWidth, kHeadSize, 2, kHeads, kUnits, 1, 1e-6F, OPTOPS_GELU_TANH, precision, nullptr};
}

void expect_alike(const std::vector<int64_t>& starts, int32_t precision) {
  const Weights weights;
  const auto sentences = static_cast<int64_t>(starts.size()) - 1;
  const auto x = random_values(starts.back() * kWidth, 7);
  const optops_encoder_config config = config_of(precision);
  optops_encoder* encoder = optops_encoder_pack(&config, weights.pointers().data(), 26, nullptr);
  expect(encoder, "an encoder can be packed");
  std::vector<float> expected(x.size());
  expect(optops_encoder_run(encoder, x.data(), starts.data(), sentences, expected.data(), 1,
                            nullptr) == OPTOPS_OK,
         "and run");
  for (float value : expected) expect(std::isfinite(value), "its outputs are finite");
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      auto y = x;  // in place
      optops_encoder_run(encoder, y.data(), starts.data(), sentences, y.data(), 1 + i, nullptr);
      expect(y == expected, "any number of threads gives the same, also in place");
    });
  }
  for (std::thread& caller : callers) caller.join();
  optops_encoder_free(encoder);
}

void sentences_of_all_lengths_are_encoded_alike_by_many_callers() {
  for (int32_t precision : {OPTOPS_FP32, OPTOPS_BF16, OPTOPS_INT8})
    expect_alike({0, 1, 50, 51, 180, 188}, precision);
}

void so_many_sentences_that_each_thread_has_some_of_its_own_are_encoded_alike() {
  std::vector<int64_t> starts{0};
  for (int i = 0; i < 90; ++i) starts.push_back(starts.back() + 30 + i % 7);
  expect_alike(starts, OPTOPS_INT8);
}

void hostile_configs_are_refused() {
  const Weights weights;
  const auto pointers = weights.pointers();
  optops_status status;
  const auto refused = [&](optops_encoder_config config, const char* what) {
    expect(!optops_encoder_pack(&config, pointers.data(), 26, &status) &&
               status.code == OPTOPS_INVALID,
           what);
  };
  const optops_encoder_config good = config_of(OPTOPS_FP32);
  expect(!optops_encoder_pack(nullptr, pointers.data(), 26, &status), "no config");
  expect(!optops_encoder_pack(&good, pointers.data(), 25, &status), "an array too few");
  expect(!optops_encoder_pack(&good, pointers.data(), 0, &status), "no arrays");
  expect(!optops_encoder_pack(&good, nullptr, 26, &status), "arrays that are nowhere");
  auto longer = pointers;
  longer.push_back(pointers[0]);
  expect(!optops_encoder_pack(&good, longer.data(), 27, &status), "an array too many");
  auto bad = good;
  bad.width = 0;
  refused(bad, "no width");
  bad = good;
  bad.layers = -3;
  refused(bad, "fewer than no layers");
  bad = good;
  bad.heads = nullptr;
  refused(bad, "no heads");
  bad = good;
  bad.head_size = INT32_MAX;
  refused(bad, "absurd heads");
  bad = good;
  bad.epsilon = NAN;
  refused(bad, "an epsilon that is NaN");
  bad = good;
  bad.activation = 9;
  refused(bad, "no such activation");
  bad = good;
  bad.precision = -1;
  refused(bad, "no such precision");
}

void hostile_sentences_are_refused() {
  const Weights weights;
  const optops_encoder_config config = config_of(OPTOPS_FP32);
  optops_encoder* encoder = optops_encoder_pack(&config, weights.pointers().data(), 26, nullptr);
  const auto x = random_values(4 * kWidth, 1);
  std::vector<float> y(x.size());
  const auto run = [&](std::vector<int64_t> starts, int64_t sentences) {
    return optops_encoder_run(encoder, x.data(), starts.data(), sentences, y.data(), 1, nullptr);
  };
  expect(run({0, 2, 4}, 2) == OPTOPS_OK, "two sentences");
  expect(run({0}, 0) == OPTOPS_OK, "no sentences are no error");
  expect(run({0, 0, 4}, 2) == OPTOPS_INVALID, "an empty sentence");
  expect(run({0, 4, 2}, 2) == OPTOPS_INVALID, "a sentence that ends before it starts");
  expect(run({1, 2}, 1) == OPTOPS_INVALID, "a first sentence that does not start at 0");
  expect(run({0, INT64_MIN, 4}, 2) == OPTOPS_INVALID, "a start that overflows");
  expect(run({0, 100000}, 1) == OPTOPS_INVALID, "an absurd length");
  expect(run({0, 4}, -1) == OPTOPS_INVALID, "fewer than no sentences");
  expect(run({0, 4}, INT64_MAX) == OPTOPS_INVALID, "absurdly many sentences");
  expect(optops_encoder_run(nullptr, x.data(), nullptr, 0, y.data(), 1, nullptr) == OPTOPS_INVALID,
         "no encoder");
  optops_encoder_free(encoder);
  optops_encoder_free(nullptr);
}

}  // namespace

int main() {
  sentences_of_all_lengths_are_encoded_alike_by_many_callers();
  so_many_sentences_that_each_thread_has_some_of_its_own_are_encoded_alike();
  hostile_configs_are_refused();
  hostile_sentences_are_refused();
  return optops::tests::outcome();
}
