// Products of packed weights: what they reach in operations per second, and, where there are few
// rows, of the bandwidth at which this machine reads the same weights, measured in turn with them.
//
// Prints one line of JSON per shape: rows, inputs, outputs, precision, threads, milliseconds,
// operations per second and share of the bandwidth, the latter two as quartiles over rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "core/aligned.h"
#include "core/thread_pool.h"
#include "cpu/kernel_table.h"
#include "layers/product.h"

namespace {

using optops::Packed;
using optops::ProductWeights;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 15;
constexpr double kLeastSeconds = 0.004;
constexpr int64_t kWorkingSet = int64_t{40} << 20;  // bytes: more than any cache of a core's own

double seconds_of(const auto& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Reads bytes as a product of one row does, and does nothing with them.
uint64_t read(const uint8_t* from, int64_t bytes) {
  typedef uint64_t Words __attribute__((vector_size(64)));
  Words total = {};
  for (int64_t at = 0; at < bytes; at += 64) {
    Words words;
    std::memcpy(&words, from + at, sizeof(words));
    total += words;
  }
  return total[0] + total[7];
}

struct Shape {
  int64_t rows, inputs, outputs;
  optops_precision precision;
};

struct Quartiles {
  double low, middle, high;
};

Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t count = values.size();
  return {values[count / 4], values[count / 2], values[3 * count / 4]};
}

void measure(const Shape& shape, int threads) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> weights(shape.inputs * shape.outputs), x(shape.rows * shape.inputs);
  for (float& value : weights) value = normal(generator);
  for (float& value : x) value = normal(generator);
  std::vector<float> y(shape.rows * shape.outputs);
  // As many copies as no cache holds, one after the other, as the layers of a model are.
  std::vector<Packed<ProductWeights>> copies;
  int64_t bytes = 0;
  while (bytes < kWorkingSet) {
    copies.push_back(Packed<ProductWeights>::pack(
        optops::BlobKind::kProduct, {shape.precision, shape.inputs, shape.outputs},
        [&](ProductWeights& product) { product.fill(weights.data(), nullptr); }));
    bytes += copies.back().model.bytes();
  }
  std::vector<double> rate, bandwidth_share, milliseconds;
  std::vector<uint64_t> sink(threads * 8);
  for (int round = 0; round < kRounds; ++round) {
    int repeats = 0;
    double spent = 0;
    while (spent < kLeastSeconds) {
      spent += seconds_of([&] {
        for (auto& copy : copies) {
          optops::run_product(copy.model, x.data(), shape.rows, OPTOPS_LINEAR, nullptr, y.data(),
                              threads);
        }
      });
      ++repeats;
    }
    const double one = spent / repeats / static_cast<double>(copies.size());
    const double reading = seconds_of([&] {
      optops::parallel(threads, [&](optops::Team& team) {
        for (auto& copy : copies) {
          const optops::Range mine = team.share(copy.model.bytes() / 64);
          sink[team.index() * 8] +=
              read(copy.model.weights + mine.begin * 64, (mine.end - mine.begin) * 64);
        }
      });
    });
    const double multiplications = static_cast<double>(shape.rows) * shape.inputs * shape.outputs;
    rate.push_back(2 * multiplications / one * 1e-9);
    bandwidth_share.push_back(reading / static_cast<double>(copies.size()) / one);
    milliseconds.push_back(one * 1e3);
  }
  const Quartiles time = quartiles(milliseconds), operations = quartiles(rate),
                  of_bandwidth = quartiles(bandwidth_share);
  const char* names[] = {"fp32", "bf16", "int8"};
  std::printf(
      "{\"rows\": %lld, \"inputs\": %lld, \"outputs\": %lld, \"precision\": \"%s\", \"threads\": "
      "%d, "
      "\"milliseconds\": %.4f, \"billion_operations_per_second\": [%.0f, %.0f, %.0f], "
      "\"bandwidth\": [%.3f, %.3f, %.3f]}\n",
      static_cast<long long>(shape.rows), static_cast<long long>(shape.inputs),
      static_cast<long long>(shape.outputs), names[shape.precision], threads, time.middle,
      operations.low, operations.middle, operations.high, of_bandwidth.low, of_bandwidth.middle,
      of_bandwidth.high);
  std::fflush(stdout);
}

}  // namespace

int main() {
  std::fprintf(stderr, "instruction set: %s\n", optops::isa_name(optops::kernels().isa));
  for (int threads : {1, optops::default_threads()}) {
    for (const auto precision : {OPTOPS_INT8, OPTOPS_BF16, OPTOPS_FP32}) {
      for (int64_t rows : {1, 4, 64}) {
        measure({rows, 512, 2048, precision}, threads);
        measure({rows, 2048, 512, precision}, threads);
        measure({rows, 768, 768, precision}, threads);
      }
    }
  }
}
