// How the sentences of a call are divided among threads.
#ifndef OPTOPS_LAYERS_DIVISION_H_
#define OPTOPS_LAYERS_DIVISION_H_

#include <cstdint>
#include <vector>

namespace optops {

// What an encoder computes and reads.
struct EncoderWork {
  int64_t weights;       // multiplications of a token with weights
  int64_t weight_bytes;  // read for them, once for all tokens
  int64_t attended;      // multiplications, in fp32, of a token with each token of its sentence
};

// Divides sentences [starts[i], starts[i + 1]) among threads: all threads at all of them, or, where
// that is faster, each at some of its own. Those of part i are [firsts[i], firsts[i + 1]).
std::vector<int64_t> divide(const int64_t* starts, int64_t sentences, const EncoderWork& work,
                            int threads);

}  // namespace optops

#endif  // OPTOPS_LAYERS_DIVISION_H_
