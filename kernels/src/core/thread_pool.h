// Threads that work in lock-step on one call: a region runs on all of them at once, with barriers
// inside.
#ifndef OPTOPS_CORE_THREAD_POOL_H_
#define OPTOPS_CORE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>

namespace optops {

inline constexpr int kMostThreads = 256;

// A contiguous share of a range.
struct Range {
  int64_t begin;
  int64_t end;
};

// A barrier for threads that meet every few microseconds: it spins, and yields where a thread is
// late.
class Barrier {
 public:
  void reset(int size) { size_ = size; }
  void wait();

 private:
  int size_ = 1;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
};

// One thread's view of a parallel region.
class Team {
 public:
  Team(int index, int size, Barrier* barrier) : index_(index), size_(size), barrier_(barrier) {}

  int index() const { return index_; }
  int size() const { return size_; }

  // Waits until all threads of the region are here; what they wrote before is visible after.
  void barrier() {
    if (size_ > 1) barrier_->wait();
  }

  // Returns this thread's share of [0, count).
  Range share(int64_t count) const {
    return {count * index_ / size_, count * (index_ + 1) / size_};
  }

 private:
  int index_;
  int size_;
  Barrier* barrier_;
};

// Runs `body(context, team)` on up to `threads` threads, the caller's among them, and returns when
// all are done.
//
// A body must not throw or allocate: what it needs is made before. If the threads are busy with
// another caller's region, or can not be started, the body runs with a smaller team: at least on
// the caller's own thread.
void run_region(int threads, void (*body)(void* context, Team& team), void* context);

template <typename Function>
void parallel(int threads, Function&& function) {
  auto call = [](void* context, Team& team) { (*static_cast<Function*>(context))(team); };
  run_region(threads, call, &function);
}

// Threads that a call uses if it does not say: OPTOPS_THREADS, or the processors that this process
// may run on, or as many as its container has a quota for if these are fewer. Throws Error if
// OPTOPS_THREADS is no number.
int default_threads();

// Threads that make a call faster: the processors, or OPTOPS_THREADS if it says more. A thread
// beyond them would be started for good, and woken by every later call. Throws Error as above.
int most_threads();

// Sets another number for this process; less than 1 takes it back.
void set_default_threads(int threads);

}  // namespace optops

#endif  // OPTOPS_CORE_THREAD_POOL_H_
