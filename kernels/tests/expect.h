// What the tests of the C interface share: expectations that are counted, and random values.
#ifndef OPTOPS_TESTS_EXPECT_H_
#define OPTOPS_TESTS_EXPECT_H_

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace optops::tests {

inline int failures = 0;

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  ++failures;
}

inline std::vector<float> random_values(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// What main returns.
inline int outcome() {
  if (failures) std::fprintf(stderr, "%d expectations failed\n", failures);
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace optops::tests

#endif  // OPTOPS_TESTS_EXPECT_H_
