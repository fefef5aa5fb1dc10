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

// Memory from this size on comes straight from the system, and goes back there.
inline constexpr std::size_t kLargePage = std::size_t{1} << 21;

// Small pages are there once they are written to. Of large ones all is there at once; what is read
// straight on is read faster in them, for a processor has to look up the place of each page.
enum class Pages { kSmall, kLarge };

struct Free {
  std::size_t mapped = 0;  // bytes from the system; 0: from the heap

  void operator()(void* memory) const {
    if (mapped) {
      munmap(memory, mapped);
    } else {
      std::free(memory);
    }
  }
};

template <typename T>
using Aligned = std::unique_ptr<T[], Free>;

// Returns memory for `count` elements; throws std::bad_alloc where there is none.
template <typename T>
Aligned<T> allocate(std::size_t count, Pages pages) {
  const std::size_t wanted = count * sizeof(T);
  const std::size_t unit = wanted < kLargePage ? kCacheLine : kLargePage;
  const std::size_t bytes = wanted ? (wanted + unit - 1) / unit * unit : unit;
  if (unit == kCacheLine) {
    void* memory = std::aligned_alloc(kCacheLine, bytes);
    if (!memory) throw std::bad_alloc();
    return Aligned<T>(static_cast<T*>(memory));
  }
  // So much more that a multiple of a large page's size is within; what is around goes back.
  void* found =
      mmap(nullptr, bytes + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<char*>(found);
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(start) % kLargePage;
  const std::size_t before = beyond ? kLargePage - beyond : 0;
  if (before) munmap(start, before);
  munmap(start + before + bytes, kLargePage - before);
#if defined(MADV_HUGEPAGE)
  // Advice, for the pages that are filled: where the system has none, all works as before.
  if (pages == Pages::kLarge)
    madvise(start + before, wanted / kLargePage * kLargePage, MADV_HUGEPAGE);
#endif
  return Aligned<T>(reinterpret_cast<T*>(start + before), Free{bytes});
}

// Scratch up to this size is kept by the calling thread for its next call. To get more anew takes
// no time beside what whole models compute in it, and threads that never need it again would hold
// it.
inline constexpr std::size_t kKeptBytes = std::size_t{1} << 26;

// Memory of one thread that grows to the largest size asked for and is used again by the next call.
template <typename T>
class Scratch {
 public:
  explicit Scratch(Pages pages = Pages::kLarge) : pages_(pages) {}

  T* of(std::size_t count) {
    if (count > count_) {
      memory_ = allocate<T>(count, pages_);
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
  Pages pages_;
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
