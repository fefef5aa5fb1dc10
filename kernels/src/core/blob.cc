#include "core/blob.h"

#include <cmath>
#include <cstring>

#include "core/status.h"

namespace optops {
namespace {

constexpr char kMagic[8] = {'o', 'p', 't', 'o', 'p', 's', 'k', '\0'};

const BlobHeader& header_of(const Block& block) {
  return *reinterpret_cast<const BlobHeader*>(block.data());
}

int64_t arrays_start(uint64_t numbers) {
  const uint64_t bytes = sizeof(BlobHeader) + numbers * sizeof(int64_t);
  return static_cast<int64_t>((bytes + kCacheLine - 1) / kCacheLine * kCacheLine);
}

// A block's bytes are a multiple of a cache line; eight sums side by side keep up with memory. It
// finds damage, it is no signature.
uint64_t checksum_of(const Block& block) {
  constexpr uint64_t kFactor =
      0x9e3779b97f4a7c15;  // 2^64 over the golden ratio: odd, its bits mixed
  uint64_t sums[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (int64_t at = sizeof(BlobHeader); at < block.bytes(); at += sizeof(sums)) {
    uint64_t words[8];
    std::memcpy(words, block.data() + at, sizeof(words));
    for (int i = 0; i < 8; ++i) {
      sums[i] = (sums[i] ^ words[i]) * kFactor;
      sums[i] ^= sums[i] >> 32;
    }
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total = (total ^ sum) * kFactor;
  return total ^ total >> 32;
}

}  // namespace

int64_t Numbers::next(const char* name, int64_t least, int64_t most) {
  if (at_ >= values_.size()) fail(OPTOPS_INVALID, "%s is missing", name);
  const int64_t value = values_[at_++];
  if (value < least || value > most) {
    fail(OPTOPS_INVALID, "%s is %lld; it may be %lld to %lld", name, static_cast<long long>(value),
         static_cast<long long>(least), static_cast<long long>(most));
  }
  return value;
}

float Numbers::next_float(const char* name) {
  const auto bits = static_cast<uint32_t>(next(name, 0, UINT32_MAX));
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  if (!std::isfinite(value)) {
    fail(OPTOPS_INVALID, "%s is %f; it must be finite", name, static_cast<double>(value));
  }
  return value;
}

void Numbers::end() const {
  if (at_ != values_.size()) fail(OPTOPS_INVALID, "%zu sizes too many", values_.size() - at_);
}

int64_t number_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

Block Block::of_size(int64_t bytes) {
  Block block;
  block.owned_ = allocate<uint8_t>(bytes, Pages::kLarge);
  block.data_ = block.owned_.get();
  block.bytes_ = bytes;
  return block;
}

Block Block::around(const void* bytes, int64_t count) {
  if (!bytes || count < 0) fail(OPTOPS_INVALID, "blob: there are no bytes");
  if (reinterpret_cast<uintptr_t>(bytes) % kCacheLine) {
    Block block = of_size(count);
    std::memcpy(block.data_, bytes, count);
    return block;
  }
  Block block;
  block.data_ = static_cast<uint8_t*>(const_cast<void*>(bytes));
  block.bytes_ = count;
  return block;
}

Block new_block(BlobKind kind, const std::vector<int64_t>& numbers, int64_t array_bytes) {
  const int64_t start = arrays_start(numbers.size());
  Block block = Block::of_size(start + array_bytes);
  // Padding too, so that equal weights make equal blocks.
  std::memset(block.data(), 0, block.bytes());
  BlobHeader header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kBlobVersion;
  header.kind = static_cast<uint32_t>(kind);
  header.bytes = block.bytes();
  header.numbers = numbers.size();
  std::memcpy(block.data(), &header, sizeof(header));
  std::memcpy(block.data() + sizeof(header), numbers.data(), numbers.size() * sizeof(int64_t));
  return block;
}

void seal(const Block& block) {
  reinterpret_cast<BlobHeader*>(block.data())->checksum = checksum_of(block);
}

Numbers checked_numbers(const Block& block, BlobKind kind) {
  const BlobHeader& header = header_of(block);
  if (block.bytes() < static_cast<int64_t>(sizeof(BlobHeader)) ||
      std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    fail(OPTOPS_INVALID, "blob: these bytes are no weights of this library");
  }
  if (header.version < 1 || header.version > kBlobVersion) {
    fail(OPTOPS_UNSUPPORTED, "blob: its format is %u, this library reads up to %u; update optops",
         header.version, kBlobVersion);
  }
  if (header.kind != static_cast<uint32_t>(kind)) {
    fail(OPTOPS_INVALID, "blob: it is of kind %u, and kind %u is wanted", header.kind,
         static_cast<uint32_t>(kind));
  }
  if (header.bytes != static_cast<uint64_t>(block.bytes()) || block.bytes() % kCacheLine) {
    fail(OPTOPS_INVALID, "blob: it says that it has %llu bytes, but has %lld: it was cut",
         static_cast<unsigned long long>(header.bytes), static_cast<long long>(block.bytes()));
  }
  if (header.numbers > static_cast<uint64_t>(block.bytes()) / sizeof(int64_t) ||
      arrays_start(header.numbers) > block.bytes()) {
    fail(OPTOPS_INVALID, "blob: it is damaged, its sizes do not fit into it");
  }
  if (header.checksum != checksum_of(block)) {
    fail(OPTOPS_INVALID, "blob: its checksum is wrong: it was damaged on its way");
  }
  std::vector<int64_t> values(header.numbers);
  std::memcpy(values.data(), block.data() + sizeof(header), values.size() * sizeof(int64_t));
  return Numbers(std::move(values));
}

uint8_t* arrays_of(const Block& block) {
  return block.data() + arrays_start(header_of(block).numbers);
}

void check_arrays(const Block& block, int64_t bytes) {
  const int64_t there = block.bytes() - arrays_start(header_of(block).numbers);
  if (there != bytes) {
    fail(OPTOPS_INVALID, "blob: it holds %lld bytes of arrays, and its sizes ask for %lld",
         static_cast<long long>(there), static_cast<long long>(bytes));
  }
}

}  // namespace optops
