// A model's weights as one block of bytes: a header, the model's sizes as numbers, its arrays.
//
// The arrays stand as the kernels read them, so that a block can be used where it lies: in a
// variable, in a mapped file. All numbers are little-endian.
#ifndef OPTOPS_CORE_BLOB_H_
#define OPTOPS_CORE_BLOB_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "core/aligned.h"

namespace optops {

enum class BlobKind : uint32_t { kProduct = 1, kEncoder = 2, kTranslator = 3 };

// Of the format; newer code reads older ones.
inline constexpr uint32_t kBlobVersion = 1;

struct BlobHeader {
  char magic[8];
  uint32_t version;
  uint32_t kind;
  uint64_t bytes;     // of the whole block
  uint64_t checksum;  // of all that follows the header
  uint64_t numbers;   // how many int64 follow the header
  uint8_t unused[24];
};
static_assert(sizeof(BlobHeader) == kCacheLine);

// Numbers that are read one after the other; each is checked as it is read.
class Numbers {
 public:
  explicit Numbers(std::vector<int64_t> values) : values_(std::move(values)) {}

  // Returns the next number; throws Error if there is none, or it is not within [least, most].
  int64_t next(const char* name, int64_t least, int64_t most);

  // Returns the next number, which is a float's bits; throws Error if it is not finite.
  float next_float(const char* name);

  // Throws Error if there are numbers left.
  void end() const;

  const std::vector<int64_t>& all() const { return values_; }

 private:
  std::vector<int64_t> values_;
  size_t at_ = 0;
};

// Returns a float as a number that `next_float` reads.
int64_t number_of(float value);

// Gives arrays their places, one after the other, each on a cache line of its own; without a start
// it only adds up how much room they need.
class Places {
 public:
  explicit Places(uint8_t* start) : start_(start) {}

  template <typename T>
  void place(T*& array, int64_t count) {
    if (start_) array = reinterpret_cast<T*>(start_ + bytes_);
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kLine - 1) / kLine * kLine;
  }

  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kLine = kCacheLine;
  uint8_t* start_;
  int64_t bytes_ = 0;
};

// Bytes that are its own, or that somebody else keeps for as long as it lives.
class Block {
 public:
  static Block of_size(int64_t bytes);
  // Copies the bytes where they do not start on a cache line.
  static Block around(const void* bytes, int64_t count);

  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Aligned<uint8_t> owned_;
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Returns a block with a header, the numbers, and room for arrays.
Block new_block(BlobKind kind, const std::vector<int64_t>& numbers, int64_t array_bytes);

// Writes the checksum, once the arrays are there.
void seal(const Block& block);

// Returns the numbers of a block; throws Error if it is not a whole block of this kind.
Numbers checked_numbers(const Block& block, BlobKind kind);

// Returns where the arrays start.
uint8_t* arrays_of(const Block& block);

// Throws Error if a block does not hold exactly so many bytes of arrays.
void check_arrays(const Block& block, int64_t bytes);

// A model and the block that its arrays stand in.
//
// Model is made from Numbers, which it checks, and has `void place(Places&)`, which gives its
// arrays their places.
template <typename Model>
struct Packed {
  Block block;
  Model model;

  // Makes the block of a model; `fill(model)` writes the arrays.
  template <typename Fill>
  static Packed pack(BlobKind kind, std::vector<int64_t> values, Fill&& fill) {
    Numbers numbers(std::move(values));
    Model model(numbers);
    numbers.end();
    Places room(nullptr);
    model.place(room);
    Packed packed{new_block(kind, numbers.all(), room.bytes()), std::move(model)};
    Places places(arrays_of(packed.block));
    packed.model.place(places);
    fill(packed.model);
    seal(packed.block);
    return packed;
  }

  // Opens a block where it lies; throws Error if it is damaged, or not of this kind.
  static Packed open(BlobKind kind, const void* bytes, int64_t count) {
    Block block = Block::around(bytes, count);
    Numbers numbers = checked_numbers(block, kind);
    Model model(numbers);
    numbers.end();
    Places places(arrays_of(block));
    model.place(places);
    check_arrays(block, places.bytes());
    return {std::move(block), std::move(model)};
  }
};

}  // namespace optops

#endif  // OPTOPS_CORE_BLOB_H_
