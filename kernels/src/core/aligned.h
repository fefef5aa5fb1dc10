// Arrays that start on a cache line, without a constructor per element.
#ifndef OPTOPS_CORE_ALIGNED_H_
#define OPTOPS_CORE_ALIGNED_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace optops {

inline constexpr std::size_t kCacheLine = 64;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

template <typename T>
using Aligned = std::unique_ptr<T[], Free>;

// Of a large page: memory that is read straight on is read faster in these, for a processor has to
// look up the place of each page.
inline constexpr std::size_t kLargePage = std::size_t{1} << 21;

// Asks the system for large pages where whole ones fit into so many bytes, and, if they have been
// written already, to move them there. It is advice: where it is not taken, all works as before.
inline void prefer_large_pages(const void* memory, std::size_t bytes, bool written) {
  const auto start = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (start + kLargePage - 1) / kLargePage * kLargePage;
  const std::uintptr_t end = (start + bytes) / kLargePage * kLargePage;
  if (end <= first) return;
#if defined(MADV_HUGEPAGE)
  madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#endif
#if defined(__linux__)
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers lack
  if (written) madvise(reinterpret_cast<void*>(first), end - first, kCollapse);
#endif
}

// Returns memory for `count` elements, in large pages where it takes some and the system has them;
// throws std::bad_alloc where there is none.
template <typename T>
Aligned<T> allocate(std::size_t count) {
  const std::size_t wanted = count * sizeof(T);
  const std::size_t unit = wanted < kLargePage ? kCacheLine : kLargePage;
  const std::size_t bytes = (wanted + kCacheLine - 1) / kCacheLine * kCacheLine;
  void* memory = nullptr;
  if (posix_memalign(&memory, unit, bytes ? bytes : kCacheLine) != 0) throw std::bad_alloc();
  prefer_large_pages(memory, bytes, false);
  return Aligned<T>(static_cast<T*>(memory));
}

// Scratch up to this size is kept by the calling thread for its next call. To get more anew takes
// no time beside what whole models compute in it, and threads that never need it again would hold
// it.
inline constexpr std::size_t kKeptBytes = std::size_t{1} << 26;

// Memory of one thread that grows to the largest size asked for and is used again by the next call.
template <typename T>
class Scratch {
 public:
  T* of(std::size_t count) {
    if (count > count_) {
      memory_ = allocate<T>(count);
      count_ = count;
    }
    return memory_.get();
  }

  // Gives the memory back if it is more than `most` bytes.
  void trim(std::size_t most = kKeptBytes) {
    if (count_ * sizeof(T) <= most) return;
    memory_.reset();
    count_ = 0;
  }

 private:
  Aligned<T> memory_;
  std::size_t count_ = 0;
};

// A workspace of the calling thread for the length of a call; then it gives back what only large
// calls need, however the call ends.
template <typename Workspace>
class Kept {
 public:
  explicit Kept(Workspace& workspace) : workspace_(workspace) {}
  ~Kept() { workspace_.trim(); }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  Workspace& operator*() const { return workspace_; }
  Workspace* operator->() const { return &workspace_; }

 private:
  Workspace& workspace_;
};

}  // namespace optops

#endif  // OPTOPS_CORE_ALIGNED_H_
