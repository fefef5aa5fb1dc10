#include "core/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/floating_point.h"
#include "core/processors.h"
#include "core/status.h"

namespace optops {
namespace {

// A worker spins this long for the next region before it sleeps: longer than the gaps between the
// regions of one translation, shorter than anybody would notice on a laptop's battery.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr int kSpinsBeforeYield = 4096;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

class Pool {
 public:
  void run(int threads, void (*body)(void*, Team&), void* context) {
    if (busy_.exchange(true, std::memory_order_acquire)) {
      Team alone(0, 1, nullptr);
      body(context, alone);
      return;
    }
    const int size = hire(threads);
    body_ = body;
    context_ = context;
    barrier_.reset(size);
    remaining_.store(size - 1, std::memory_order_relaxed);
    // Number and size of the region travel in one word: who is not in it need not look at anything
    // else.
    region_ = (((region_ >> 16) + 1) << 16) | static_cast<uint64_t>(size);
    ticket_.store(region_, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst) > 0) ticket_.notify_all();
    Team team(0, size, &barrier_);
    body(context, team);
    for (int spins = 0; remaining_.load(std::memory_order_acquire) > 0;) {
      relax();
      if (++spins % kSpinsBeforeYield == 0) sched_yield();
    }
    busy_.store(false, std::memory_order_release);
  }

 private:
  // Returns how many threads there are for a region, after starting those that are missing.
  int hire(int threads) {
    while (workers_ < threads - 1) {
      try {
        std::thread(&Pool::work, this, workers_ + 1).detach();
      } catch (...) {  // there are no more threads, or no memory for one
        break;
      }
      ++workers_;
    }
    return threads - 1 < workers_ ? threads : workers_ + 1;
  }

  void work(int index) {
    // Signals are for the threads that their handlers were written for.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    run_on_any_processor();
    const FloatingPoint environment;
    // A new worker may miss nothing: the region that it was started for comes after it, and it is
    // in it.
    for (uint64_t seen = 0;;) {
      const uint64_t ticket = next(seen);
      const int size = static_cast<int>(ticket & 0xffff);
      if (index < size) {
        Team team(index, size, &barrier_);
        body_(context_, team);
        remaining_.fetch_sub(1, std::memory_order_release);
      }
      seen = ticket;
    }
  }

  uint64_t next(uint64_t seen) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    for (int spins = 1;; ++spins) {
      const uint64_t ticket = ticket_.load(std::memory_order_acquire);
      if (ticket != seen) return ticket;
      relax();
      if (spins % 64 == 0 && std::chrono::steady_clock::now() > until) break;
    }
    asleep_.fetch_add(1, std::memory_order_seq_cst);
    ticket_.wait(seen, std::memory_order_seq_cst);
    asleep_.fetch_sub(1, std::memory_order_relaxed);
    return ticket_.load(std::memory_order_acquire);
  }

  std::atomic<bool> busy_{false};
  int workers_ = 0;
  uint64_t region_ = 0;
  void (*body_)(void*, Team&) = nullptr;
  void* context_ = nullptr;
  Barrier barrier_;
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> remaining_{0};
  alignas(64) std::atomic<int> asleep_{0};
};

std::atomic<Pool*> pool{nullptr};

// A child of fork has the memory of its parent's pool, but none of its threads: it starts anew. The
// pool is never destroyed, because its threads may outlive static destructors.
Pool& the_pool() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
  (void)registered;
  Pool* found = pool.load(std::memory_order_acquire);
  if (!found) {
    Pool* fresh = new Pool;
    if (pool.compare_exchange_strong(found, fresh)) return *fresh;
    delete fresh;
  }
  return *found;
}

std::atomic<int> wanted_threads{0};

// Returns what OPTOPS_THREADS asks for, 0 if it does not; throws Error if it is no number.
int threads_of_environment() {
  static const int count = [] {
    const char* text = std::getenv("OPTOPS_THREADS");
    if (!text || !*text) return 0;
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (end == text || *end || value < 0) {
      fail(OPTOPS_UNSUPPORTED,
           "OPTOPS_THREADS is %s; give a number of threads, 0 for the default, or unset it", text);
    }
    return static_cast<int>(value < kMostThreads ? value : kMostThreads);
  }();
  return count;
}

}  // namespace

void Barrier::wait() {
  const uint32_t round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round;) {
    relax();
    if (++spins % kSpinsBeforeYield == 0) sched_yield();
  }
}

void run_region(int threads, void (*body)(void*, Team&), void* context) {
  if (threads > kMostThreads) threads = kMostThreads;
  if (threads > 1) {
    the_pool().run(threads, body, context);
    return;
  }
  Team alone(0, 1, nullptr);
  body(context, alone);
}

int default_threads() {
  const int asked = threads_of_environment();
  if (const int wanted = wanted_threads.load(std::memory_order_relaxed); wanted > 0) return wanted;
  return asked ? asked : std::min(processors(), kMostThreads);
}

int most_threads() {
  return std::max(std::min(processors(), kMostThreads), threads_of_environment());
}

void set_default_threads(int threads) {
  wanted_threads.store(threads < kMostThreads ? threads : kMostThreads, std::memory_order_relaxed);
}

}  // namespace optops
