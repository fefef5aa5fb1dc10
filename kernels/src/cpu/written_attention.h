// Attention of a hypothesis over what it has written so far, which stands where it was written.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

// Words of a key or a value in a cache: whole vectors.
template <typename Precision>
static inline int64_t cached_words(int64_t head_size) {
  return cached_size((head_size + Precision::kGroup - 1) / Precision::kGroup);
}

// Writes `features` as they stand in a cache, times the scale.
template <typename Precision>
static inline void write_cached(const float* features, int64_t head_size, float scale,
                                float* words) {
  for (int64_t at = 0; at < cached_words<Precision>(head_size); at += kWidth) {
    const int64_t first = at * Precision::kGroup;
    store(words + at, groups_at<Precision>(features + first, head_size - first, scale));
  }
}

// Where one head's keys or values of a sentence stand: those of a position in a slot each.
struct Written {
  const float* entries;  // [position][slot][words]
  const uint8_t* ancestors;
  int64_t slots, words;

  const float* at(int64_t position) const {
    return entries + (position * slots + ancestors[position]) * words;
  }
};

// Scores of one query over the positions [0, count), rounded up to whole vectors.
template <typename Precision>
static inline void score_written(const float* query, const Written& keys, int64_t count,
                                 float* scores) {
  for (int64_t first = 0; first < count; first += kWidth) {
    Floats sums[kWidth];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kWidth; ++i) {
      // Beyond the end the last position serves once more; its scores are not used.
      const float* key = keys.at(first + i < count ? first + i : count - 1);
      Floats sum = {};
      for (int64_t at = 0; at < keys.words; at += kWidth) {
        Precision::add(sum, reinterpret_cast<const uint8_t*>(key + at),
                       load<typename Precision::Activation>(query + at));
      }
      sums[i] = sum;
    }
    store(scores + first, sums_of<kWidth / 2>(sums));
  }
}

// The weighted sum of values, a few vectors at a time, the first of which is at `at`.
template <typename Precision, int Vectors>
static inline void mix_written(const float* weights, const Written& values, int64_t count,
                               int64_t at, float* mixed) {
  constexpr int kGroup = Precision::kGroup;
  Floats sums[Vectors][kGroup] = {};
  for (int64_t position = 0; position < count; ++position) {
    const float* value = values.at(position) + at;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      if constexpr (kGroup == 1) {
        sums[v][0] += weights[position] * load<Floats>(value + v * kWidth);
      } else {
        const Words pairs = load<Words>(value + v * kWidth);
        const Words even = pairs << 16, odd = pairs & 0xffff0000U;
        sums[v][0] += weights[position] * load<Floats>(&even);
        sums[v][1] += weights[position] * load<Floats>(&odd);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    float* to = mixed + (at + v * kWidth) * kGroup;
    if constexpr (kGroup == 1) {
      store(to, sums[v][0]);
    } else {
      Ints low, high;  // even and odd ones in turn
#pragma GCC unroll 16
      for (int lane = 0; lane < kWidth; ++lane) {
        low[lane] = lane / 2 + lane % 2 * kWidth;
        high[lane] = low[lane] + kWidth / 2;
      }
      store(to, __builtin_shuffle(sums[v][0], sums[v][1], low));
      store(to + kWidth, __builtin_shuffle(sums[v][0], sums[v][1], high));
    }
  }
}

template <typename Precision>
static void attend_written(const WrittenAttentionTask& task, int64_t begin, int64_t end,
                           float* scratch) {
  constexpr int kVectorsAtOnce = 4 / Precision::kGroup;
  const int64_t head_size = task.head_size, part = task.heads * head_size;
  const int64_t words = cached_words<Precision>(head_size), count = task.position + 1;
  float *query = scratch, *mixed = query + words, *scores = mixed + words * Precision::kGroup;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sentence = item / task.heads, head = item % task.heads;
    const int64_t first = task.first_rows[sentence], rows = task.first_rows[sentence + 1] - first;
    float* keys = task.cache + task.heads * task.offsets[sentence] +
                  head * cache_floats(head_size, task.capacities[sentence], task.slots);
    float* values = keys + task.capacities[sentence] * task.slots * words;
    const float* joined = task.joined + first * task.joined_stride + head * head_size;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t place = (task.position * task.slots + row) * words;
      const float* written = joined + row * task.joined_stride;
      write_cached<Precision>(written + part, head_size, 1.0F, keys + place);
      write_cached<Precision>(written + 2 * part, head_size, 1.0F, values + place);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* ancestors = task.ancestors[first + row];
      const Written seen{values, ancestors, task.slots, words};
      write_cached<Precision>(joined + row * task.joined_stride, head_size, task.scale, query);
      score_written<Precision>(query, {keys, ancestors, task.slots, words}, count, scores);
      const float factor = weigh(scores, count, (count + kWidth - 1) / kWidth * kWidth);
      int64_t at = 0;
      for (; at + kVectorsAtOnce * kWidth <= words; at += kVectorsAtOnce * kWidth)
        mix_written<Precision, kVectorsAtOnce>(scores, seen, count, at, mixed);
      for (; at < words; at += kWidth) mix_written<Precision, 1>(scores, seen, count, at, mixed);
      float* context = task.context + (first + row) * task.context_stride + head * head_size;
      for (int64_t i = 0; i < head_size; ++i) context[i] = mixed[i] * factor;
    }
  }
}

}  // namespace optops::OPTOPS_NAMESPACE
