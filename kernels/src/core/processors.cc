#include "core/processors.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <vector>

#include "core/cpu_quota.h"

namespace optops {
namespace {

// One of them holds 1024 processors.
using Set = std::vector<cpu_set_t>;
constexpr std::size_t kMostSets = 64;

std::size_t bytes_of(const Set& set) { return set.size() * sizeof(cpu_set_t); }

// Returns what the process's first thread may run on; nothing if the system does not say.
Set allowed() {
  for (Set set(1); set.size() <= kMostSets; set.resize(2 * set.size())) {
    if (sched_getaffinity(getpid(), bytes_of(set), set.data()) == 0) return set;
    if (errno != EINVAL) break;  // else there are more processors than it has room for
  }
  return {};
}

int count_processors() {
  const Set set = allowed();
  const int found = set.empty() ? 1 : CPU_COUNT_S(bytes_of(set), set.data());
  // More threads than a quota has processors would use it up while they spin, and all stand still.
  const int quota = processors_in_quota("/sys/fs/cgroup");
  return std::max(quota > 0 ? std::min(quota, found) : found, 1);
}

std::atomic<int> counted{0};

}  // namespace

int processors() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { counted.store(0); });
  (void)registered;
  if (!counted.load(std::memory_order_relaxed)) counted.store(count_processors());
  return counted.load(std::memory_order_relaxed);
}

void run_on_any_processor() noexcept try {
  if (const Set set = allowed(); !set.empty()) sched_setaffinity(0, bytes_of(set), set.data());
} catch (...) {  // no memory to ask with: it stays where it is
}

}  // namespace optops
