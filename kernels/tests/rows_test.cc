// Tests of functions of rows and of attention through the C interface, for the sanitizers.
#include <cmath>
#include <vector>

#include "core/floating_point.h"
#include "expect.h"
#include "optops/kernels.h"

namespace {

using optops::tests::expect;
using optops::tests::random_values;

void norms_have_mean_zero_and_variance_one() {
  for (int64_t width : {1, 3, 16, 17, 130}) {
    const int64_t rows = 5;
    const auto x = random_values(rows * width, 1), residual = random_values(rows * width, 2);
    const std::vector<float> ones(width, 1.0F), zeros(width, 0.0F);
    std::vector<float> y(rows * width);
    optops_status status;
    optops_residual_norm(x.data(), residual.data(), rows, width, ones.data(), zeros.data(), 1e-12F,
                         y.data(), 2, &status);
    expect(status.code == OPTOPS_OK, "rows can be normalised");
    for (int64_t row = 0; row < rows && width > 1; ++row) {
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < width; ++i) {
        sum += y[row * width + i];
        squares += double(y[row * width + i]) * y[row * width + i];
      }
      expect(std::fabs(sum / width) < 1e-5 && std::fabs(squares / width - 1) < 1e-4,
             "a normalised row has mean 0 and variance 1");
    }
  }
}

void softmax_counts_what_is_there() {
  const int64_t rows = 4, width = 19;
  const auto x = random_values(rows * width, 3);
  const std::vector<int32_t> counts{0, 1, 16, 19};
  std::vector<float> y(rows * width, 9.0F);
  optops_status status;
  optops_masked_softmax(x.data(), rows, width, counts.data(), y.data(), 1, &status);
  expect(status.code == OPTOPS_OK, "a softmax can be computed");
  for (int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) {
      const float value = y[row * width + i];
      expect(i < counts[row] ? value > 0 : value == 0, "what does not count is zero");
      sum += value;
    }
    expect(std::fabs(sum - (counts[row] ? 1 : 0)) < 1e-6, "a softmax adds up to 1");
  }
  const std::vector<int32_t> wrong{0, 1, 20, 19};
  optops_masked_softmax(x.data(), rows, width, wrong.data(), y.data(), 1, &status);
  expect(status.code == OPTOPS_INVALID, "a count beyond the row is refused");
}

void denormal_numbers_are_zero_whichever_thread_computes() {
  const int64_t rows = 1000, width = 64;
  std::vector<float> x(rows * width, -100.0F);
  for (int64_t row = 0; row < rows; ++row) x[row * width] = x[row * width + 1] = 0.0F;
  const std::vector<int32_t> counts(rows, 3);  // the third weight is half of e^-87
  std::vector<float> expected(rows * width, 0.0F);
  for (int64_t row = 0; row < rows; ++row) expected[row * width] = expected[row * width + 1] = 0.5F;
  const optops::FloatingPointState before = optops::floating_point();
  for (const optops::FloatingPointState state : {before, optops::kFloatingPoint}) {
    for (int threads : {1, 2, 3}) {
      std::vector<float> y(rows * width, 9.0F);
      optops::set_floating_point(state);
      optops_masked_softmax(x.data(), rows, width, counts.data(), y.data(), threads, nullptr);
      const optops::FloatingPointState after = optops::floating_point();
      optops::set_floating_point(before);
      expect(after == state, "the caller computes on as before");
      expect(y == expected, "what is denormal is zero");
    }
  }
}

void absurdly_many_threads_take_no_room() {
  const int64_t width = 100'000;
  const auto x = random_values(width, 8);
  const int32_t count = width;
  std::vector<float> y(width);
  expect(
      optops_masked_softmax(x.data(), 1, width, &count, y.data(), INT32_MAX, nullptr) == OPTOPS_OK,
      "a row is computed on as many threads as it is worth");
}

void activations_take_all_tails() {
  for (int64_t width : {1, 5, 16, 33}) {
    const auto x = random_values(3 * width, 4), bias = random_values(width, 5);
    std::vector<float> y(3 * width);
    optops_status status;
    optops_bias_activation(x.data(), 3, width, bias.data(), OPTOPS_RELU, y.data(), 2, &status);
    expect(status.code == OPTOPS_OK, "rows can be activated");
    for (int64_t i = 0; i < 3 * width; ++i)
      expect(y[i] == std::fmax(x[i] + bias[i % width], 0.0F), "an activation is exact for ReLU");
  }
}

void attention_is_a_mean_of_what_is_there() {
  const optops_attention_config config{3, 5, 70, 2, 9, 0, 0.3F};
  const int64_t width = 18;
  const auto queries = random_values(3 * 5 * width, 6), keys = random_values(3 * 70 * width, 7);
  const std::vector<float> values(3 * 70 * width, 2.0F);
  const std::vector<int32_t> lengths{70, 0, 1};
  std::vector<float> context(3 * 5 * width, 9.0F);
  optops_status status;
  optops_attention(&config, queries.data(), keys.data(), values.data(), lengths.data(),
                   context.data(), 2, &status);
  expect(status.code == OPTOPS_OK, "attention can be computed");
  for (int64_t i = 0; i < 3 * 5 * width; ++i) {
    const float expected = i / (5 * width) == 1 ? 0.0F : 2.0F;
    expect(std::fabs(context[i] - expected) < 1e-5, "a mean of equal values is that value");
  }
  optops_attention_config wrong = config;
  wrong.head_size = INT32_MAX;
  optops_attention(&wrong, queries.data(), keys.data(), values.data(), nullptr, context.data(), 1,
                   &status);
  expect(status.code == OPTOPS_INVALID, "an absurd head size is refused");
}

}  // namespace

int main() {
  norms_have_mean_zero_and_variance_one();
  softmax_counts_what_is_there();
  denormal_numbers_are_zero_whichever_thread_computes();
  absurdly_many_threads_take_no_room();
  activations_take_all_tails();
  attention_is_a_mean_of_what_is_there();
  return optops::tests::outcome();
}
