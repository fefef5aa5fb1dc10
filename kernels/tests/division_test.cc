// Tests of how sentences are divided among threads.
#include "layers/division.h"

#include <vector>

#include "expect.h"

namespace {

using optops::divide;
using optops::EncoderWork;
using optops::tests::expect;

// Layers as of BERT-base, a layer of them.
constexpr int64_t kWeights = 12 * 768 * 768, kAttended = 2 * 768;
constexpr EncoderWork kInt8{kWeights, kWeights, kAttended};
constexpr EncoderWork kFp32{kWeights, 4 * kWeights, kAttended};

std::vector<int64_t> divided(const std::vector<int64_t>& lengths, const EncoderWork& work,
                             int threads) {
  std::vector<int64_t> starts{7};  // the first sentence of a call may start anywhere
  for (int64_t length : lengths) starts.push_back(starts.back() + length);
  return divide(starts.data(), static_cast<int64_t>(lengths.size()), work, threads);
}

void many_sentences_become_parts_of_equal_work() {
  using Firsts = std::vector<int64_t>;
  const std::vector<int64_t> eight(8, 64);
  expect(divided(eight, kInt8, 2) == Firsts({0, 4, 8}), "two halves");
  expect(divided(eight, kInt8, 4) == Firsts({0, 2, 4, 6, 8}), "four quarters");
  expect(divided({200, 40, 60, 100, 198, 2}, kInt8, 2) == Firsts({0, 3, 6}), "of other lengths");
}

void sentences_are_kept_together_where_parts_would_bring_nothing() {
  using Firsts = std::vector<int64_t>;
  const std::vector<int64_t> eight(8, 64);
  expect(divided(eight, kInt8, 1) == Firsts({0, 8}), "a thread alone");
  expect(divided(eight, kFp32, 2) == Firsts({0, 8}), "too few tokens for so large weights");
  expect(divided({64, 64}, kInt8, 2) == Firsts({0, 2}), "too few tokens");
  expect(divided({512}, kInt8, 2) == Firsts({0, 1}), "one sentence");
  expect(divided({300, 150, 150, 0, 0}, kInt8, 3) == Firsts({0, 5}), "one is much larger");
  std::vector<int64_t> giant(65, 32);
  giant[0] = 2048;
  expect(divided(giant, kInt8, 2) == Firsts({0, 65}),
         "as many tokens, but attention over far more of them");
}

}  // namespace

int main() {
  many_sentences_become_parts_of_equal_work();
  sentences_are_kept_together_where_parts_would_bring_nothing();
}
