#include "layers/division.h"

#include <algorithm>

namespace optops {
namespace {

// A thread with sentences of its own reads all weights for them, but meets nobody, and finds what
// it wrote in its own cache. That pays from so many tokens on, times the bytes of a weight.
constexpr double kLeastTokens = 128;

// By what factor the largest part may exceed an equal one: the other threads wait for it.
constexpr double kUneven = 1.05;

}  // namespace

std::vector<int64_t> divide(const int64_t* starts, int64_t sentences, const EncoderWork& work,
                            int threads) {
  const std::vector<int64_t> together{0, sentences};
  const auto tokens = static_cast<double>(starts[sentences] - starts[0]);
  const double bytes = static_cast<double>(work.weight_bytes) / static_cast<double>(work.weights);
  if (threads < 2 || tokens < kLeastTokens * bytes * threads) return together;
  // Of narrower numbers as many more are multiplied at once.
  const double attended = static_cast<double>(work.attended) * sizeof(float) / bytes;
  std::vector<double> done{0};
  for (int64_t i = 0; i < sentences; ++i) {
    const auto length = static_cast<double>(starts[i + 1] - starts[i]);
    done.push_back(done.back() + length * (static_cast<double>(work.weights) + attended * length));
  }
  const double share = done.back() / threads;
  std::vector<int64_t> firsts{0};
  double largest = 0;
  for (int part = 1; part <= threads; ++part) {
    // The part ends after the sentence that brings it nearest to its share.
    const auto next = std::lower_bound(done.begin() + firsts.back(), done.end(), share * part);
    int64_t end = std::min<int64_t>(next - done.begin(), sentences);
    if (end > firsts.back() + 1 && share * part - done[end - 1] < done[end] - share * part) --end;
    if (part == threads) end = sentences;
    largest = std::max(largest, done[end] - done[firsts.back()]);
    if (end > firsts.back()) firsts.push_back(end);
  }
  return largest <= kUneven * share ? firsts : together;
}

}  // namespace optops
