// Arrays that start on a cache line, without a constructor per element.
#ifndef OPTOPS_CORE_ALIGNED_H_
#define OPTOPS_CORE_ALIGNED_H_

#include <cstddef>
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

// Returns memory for `count` elements; throws std::bad_alloc where there is none.
template <typename T>
Aligned<T> allocate(std::size_t count) {
  const std::size_t bytes = (count * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
  void* memory = std::aligned_alloc(kCacheLine, bytes ? bytes : kCacheLine);
  if (!memory) throw std::bad_alloc();
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

  // Gives the memory back if it is more than is kept.
  void trim() {
    if (count_ * sizeof(T) <= kKeptBytes) return;
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
