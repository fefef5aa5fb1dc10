// Tests of the C interface that need no Python, so that they run under sanitizers and on any
// processor.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/kernel_table.h"
#include "expect.h"
#include "optops/kernels.h"

namespace {

using optops::tests::expect;
using optops::tests::random_values;

struct Case {
  int64_t rows, inputs, outputs;
};

// Largest difference from the product in double, relative to its largest magnitude.
double error_of(const Case& c, optops_precision precision, int threads) {
  const auto x = random_values(c.rows * c.inputs, 1), w = random_values(c.inputs * c.outputs, 2);
  const auto bias = random_values(c.outputs, 3), residual = random_values(c.rows * c.outputs, 4);
  std::vector<float> y(c.rows * c.outputs);
  optops_status status;
  optops_product* product =
      optops_product_pack(w.data(), bias.data(), c.inputs, c.outputs, precision, &status);
  expect(product && status.code == OPTOPS_OK, "a product can be packed");
  optops_product_run(product, x.data(), c.rows, OPTOPS_RELU, residual.data(), y.data(), threads,
                     &status);
  expect(status.code == OPTOPS_OK, "a product can be run");
  optops_product_free(product);
  double worst = 0, largest = 0;
  for (int64_t row = 0; row < c.rows; ++row) {
    for (int64_t output = 0; output < c.outputs; ++output) {
      double sum = bias[output];
      for (int64_t i = 0; i < c.inputs; ++i)
        sum += double(x[row * c.inputs + i]) * w[i * c.outputs + output];
      const double expected = (sum > 0 ? sum : 0) + residual[row * c.outputs + output];
      worst = std::fmax(worst, std::fabs(expected - y[row * c.outputs + output]));
      largest = std::fmax(largest, std::fabs(sum));
    }
  }
  return worst / largest;
}

void products_are_right_for_all_tails() {
  const Case cases[] = {{1, 1, 1},    {1, 3, 5},      {2, 4, 16},   {3, 5, 17},
                        {4, 63, 63},  {5, 64, 64},    {6, 65, 65},  {7, 66, 80},
                        {13, 67, 33}, {64, 130, 200}, {1, 512, 300}};
  const double allowed[] = {2e-6, 2e-2, 4e-2};
  for (const Case& c : cases) {
    for (int precision = OPTOPS_FP32; precision <= OPTOPS_INT8; ++precision) {
      for (int threads : {1, 2, 3}) {
        expect(error_of(c, static_cast<optops_precision>(precision), threads) < allowed[precision],
               "a product is within its precision of the reference");
      }
    }
  }
}

// The row up to which AMX reads where a thread multiplies rows [begin, end): whole tiles, but a
// lower one where there are fewer rows than a tile has.
int64_t end_of_tiles(int64_t begin, int64_t end) {
  const int64_t count = end - begin, height = optops::kTileRows;
  return count < height ? end : begin + (count + height - 1) / height * height;
}

void tiles_stay_within_the_room_wherever_a_threads_rows_begin() {
  bool within = true;
  for (int64_t rows = 1; rows <= 700; ++rows) {
    for (int threads = 1; threads <= 40; ++threads) {
      for (int index = 0; index < threads; ++index) {
        const optops::Range mine = optops::Team(index, threads, nullptr).share(rows);
        within &= end_of_tiles(mine.begin, mine.end) <= optops::rows_with_room(rows);
      }
    }
  }
  expect(within, "no thread reads beyond the rows that there is room for");
}

void hostile_arguments_are_refused() {
  const auto w = random_values(12, 1);
  auto bad = w;
  bad[7] = NAN;
  optops_status status;
  expect(!optops_product_pack(nullptr, nullptr, 3, 4, OPTOPS_FP32, &status), "no weights");
  expect(!optops_product_pack(w.data(), nullptr, 0, 4, OPTOPS_FP32, &status), "no inputs");
  expect(!optops_product_pack(w.data(), nullptr, 3, INT64_MAX, OPTOPS_FP32, &status),
         "absurd outputs");
  expect(!optops_product_pack(w.data(), nullptr, 3, 4, 7, &status), "no such precision");
  expect(!optops_product_pack(bad.data(), nullptr, 3, 4, OPTOPS_FP32, &status),
         "a weight that is NaN");
  expect(std::strstr(status.message, "input 1 and output 3") != nullptr,
         "the message says which weight");
  expect(!optops_product_pack(bad.data(), nullptr, 3, 4, OPTOPS_FP32, nullptr),
         "a status may be absent");
  optops_product* product = optops_product_pack(w.data(), nullptr, 3, 4, OPTOPS_INT8, &status);
  float x[3] = {1, 2, 3}, y[4];
  const auto run = [&](const optops_product* p, const float* from, int64_t rows, int activation,
                       int threads) {
    return optops_product_run(p, from, rows, activation, nullptr, y, threads, &status);
  };
  expect(run(nullptr, x, 1, OPTOPS_LINEAR, 1) == OPTOPS_INVALID, "no product");
  expect(run(product, nullptr, 1, OPTOPS_LINEAR, 1) == OPTOPS_INVALID, "no activations");
  expect(run(product, x, -1, OPTOPS_LINEAR, 1) == OPTOPS_INVALID, "fewer than no rows");
  expect(run(product, x, 1, 99, 1) == OPTOPS_INVALID, "no such activation");
  expect(run(product, x, 1, OPTOPS_LINEAR, -2) == OPTOPS_INVALID, "fewer than no threads");
  expect(run(product, nullptr, 0, OPTOPS_LINEAR, 1) == OPTOPS_OK, "no rows are no error");
  x[1] = INFINITY;
  expect(run(product, x, 1, OPTOPS_LINEAR, 1) == OPTOPS_OK && std::isnan(y[0]),
         "what is not finite stays so");
  optops_product_free(product);
  optops_product_free(nullptr);
}

void callers_at_once_get_their_own_results() {
  const auto w = random_values(256 * 192, 1);
  optops_product* product = optops_product_pack(w.data(), nullptr, 256, 192, OPTOPS_INT8, nullptr);
  const auto x = random_values(8 * 8 * 256, 2);
  std::vector<float> expected(64 * 192), found(64 * 192);
  for (int i = 0; i < 8; ++i) {
    optops_product_run(product, &x[i * 2048], 8, OPTOPS_LINEAR, nullptr, &expected[i * 1536], 1,
                       nullptr);
  }
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&, i] {
      for (int turn = 0; turn < 200; ++turn) {
        optops_product_run(product, &x[i * 2048], 8, OPTOPS_LINEAR, nullptr, &found[i * 1536],
                           2 + i % 3, nullptr);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  expect(found == expected, "each caller gets what it gets alone");
  optops_product_free(product);
}

}  // namespace

int main() {
  std::printf("instruction set %s of %s, %d threads\n", optops_isa(), optops_isas(),
              optops_threads());
  products_are_right_for_all_tails();
  tiles_stay_within_the_room_wherever_a_threads_rows_begin();
  hostile_arguments_are_refused();
  callers_at_once_get_their_own_results();
  return optops::tests::outcome();
}
