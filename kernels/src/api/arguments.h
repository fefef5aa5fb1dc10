// What all functions of the C interface check of their arguments.
#ifndef OPTOPS_API_ARGUMENTS_H_
#define OPTOPS_API_ARGUMENTS_H_

#include <algorithm>
#include <cstdint>

#include "core/status.h"
#include "core/thread_pool.h"
#include "optops/kernels.h"

namespace optops {

inline constexpr int64_t kMostRows = int64_t{1} << 28;
inline constexpr int64_t kLongestSentence = 65536;

// Returns on how many threads a call runs.
inline int threads_for(int32_t wanted) {
  if (wanted < 0)
    fail(OPTOPS_INVALID, "threads is %d; give 0 for the default, or a number above", wanted);
  return std::min(wanted ? wanted : default_threads(), most_threads());
}

// Throws Error if there may not be so many sentences.
inline void check_sentences(int64_t sentences) {
  if (sentences < 0 || sentences > kMostRows) {
    fail(OPTOPS_INVALID, "%lld sentences; there may be 0 to %lld",
         static_cast<long long>(sentences), static_cast<long long>(kMostRows));
  }
}

// Throws Error if `starts` does not cut tokens into sentences of 1 to `longest` tokens.
inline void check_starts(const int64_t* starts, int64_t sentences, int64_t longest) {
  check_sentences(sentences);
  if (!starts) fail(OPTOPS_INVALID, "starts are missing");
  if (starts[0] != 0) fail(OPTOPS_INVALID, "the first sentence must start at 0");
  for (int64_t i = 0; i < sentences; ++i) {
    // Unsigned, because a hostile difference must not overflow.
    const uint64_t length = static_cast<uint64_t>(starts[i + 1]) - static_cast<uint64_t>(starts[i]);
    if (length < 1 || length > static_cast<uint64_t>(longest)) {
      fail(OPTOPS_INVALID,
           "sentence %lld starts at %lld and ends at %lld; it may have 1 to %lld tokens",
           static_cast<long long>(i), static_cast<long long>(starts[i]),
           static_cast<long long>(starts[i + 1]), static_cast<long long>(longest));
    }
    if (starts[i + 1] > kMostRows) fail(OPTOPS_INVALID, "there are too many tokens");
  }
}

// Runs a function of the C interface that returns a code.
template <typename Function>
int32_t coded(optops_status* status, Function&& function) noexcept {
  optops_status outcome;
  guarded(&outcome, 0, [&] {
    function();
    return 0;
  });
  if (status) *status = outcome;
  return outcome.code;
}

}  // namespace optops

#endif  // OPTOPS_API_ARGUMENTS_H_
