// Tests of the threads in a process whose memory can run out.
#include <atomic>
#include <cstdlib>
#include <new>

#include "core/thread_pool.h"
#include "expect.h"

namespace {

std::atomic<bool> memory_is_left{true};

}  // namespace

void* operator new(std::size_t size) {
  if (void* memory = memory_is_left ? std::malloc(size ? size : 1) : nullptr) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using optops::tests::expect;

// Returns on how many threads a region runs.
int threads_of_region(int wanted) {
  std::atomic<int> count{0};
  optops::parallel(wanted, [&](optops::Team&) { ++count; });
  return count;
}

void threads_that_there_is_no_memory_for_are_started_when_there_is() {
  memory_is_left = false;
  const int without = threads_of_region(3);
  memory_is_left = true;
  expect(without == 1, "without memory for threads the caller works alone");
  expect(threads_of_region(3) == 3, "with memory again it does not");
}

}  // namespace

int main() {
  threads_that_there_is_no_memory_for_are_started_when_there_is();
  return optops::tests::outcome();
}
