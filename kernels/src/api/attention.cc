// The C interface: attention over padded batches.
#include <algorithm>
#include <vector>

#include "api/arguments.h"
#include "core/aligned.h"
#include "cpu/kernel_table.h"
#include "layers/product.h"
#include "pack/product_weights.h"

namespace optops {
namespace {

void check_config(const optops_attention_config& config) {
  const auto check = [](const char* name, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most) {
      fail(OPTOPS_INVALID, "attention: %s is %lld; it may be %lld to %lld", name,
           static_cast<long long>(value), static_cast<long long>(least),
           static_cast<long long>(most));
    }
  };
  check("sentences", config.sentences, 0, kMostRows);
  check("query_time", config.query_time, 0, kLongestSentence);
  check("memory_time", config.memory_time, 0, kLongestSentence);
  check("heads", config.heads, 1, kWidestLayer);
  check("head_size", config.head_size, 1, kWidestLayer / config.heads);
  check("sentences * time", config.sentences * std::max(config.query_time, config.memory_time), 0,
        kMostRows);
}

void attend(const optops_attention_config& config, const float* queries, const float* keys,
            const float* values, const int32_t* lengths, float* context, int threads) {
  const int64_t sentences = config.sentences, width = int64_t{config.heads} * config.head_size;
  // Starts and ends of queries, then of keys.
  std::vector<int64_t> bounds(4 * sentences);
  int64_t *query_starts = bounds.data(), *query_ends = query_starts + sentences;
  int64_t *memory_starts = query_ends + sentences, *memory_ends = memory_starts + sentences;
  for (int64_t i = 0; i < sentences; ++i) {
    if (lengths && (lengths[i] < 0 || lengths[i] > config.memory_time)) {
      fail(OPTOPS_INVALID, "attention: sentence %lld has %d keys; there may be 0 to %lld",
           static_cast<long long>(i), lengths[i], static_cast<long long>(config.memory_time));
    }
    query_starts[i] = i * config.query_time;
    query_ends[i] = query_starts[i] + config.query_time;
    memory_starts[i] = i * config.memory_time;
    memory_ends[i] = memory_starts[i] + (lengths ? lengths[i] : config.memory_time);
  }
  const AttentionTask task{.queries = queries,
                           .query_stride = width,
                           .keys = keys,
                           .values = values,
                           .memory_stride = width,
                           .query_starts = query_starts,
                           .query_ends = query_ends,
                           .memory_starts = memory_starts,
                           .memory_ends = memory_ends,
                           .heads = config.heads,
                           .head_size = config.head_size,
                           .scale = config.scale,
                           .causal = config.causal != 0,
                           .context = context,
                           .context_stride = width};
  const KernelTable& table = kernels();
  const int64_t pairs = sentences * config.heads;
  threads = static_cast<int>(std::min<int64_t>(
      threads_worth(threads, sentences * config.query_time * config.memory_time * 2 * width),
      std::max<int64_t>(pairs, 1)));
  const int64_t room = attention_scratch(config.memory_time, config.head_size);
  static thread_local Scratch<float> scratch;
  const Kept kept(scratch);
  float* rooms = kept->of(threads * room);
  parallel(threads, [&](Team& team) {
    const Range mine = team.share(pairs);
    table.attend[OPTOPS_FP32](task, mine.begin, mine.end, rooms + team.index() * room);
  });
}

}  // namespace
}  // namespace optops

int32_t optops_attention(const optops_attention_config* config, const float* queries,
                         const float* keys, const float* values, const int32_t* lengths,
                         float* context, int32_t threads, optops_status* status) {
  return optops::coded(status, [&] {
    if (!config) optops::fail(OPTOPS_INVALID, "attention: the config is missing");
    optops::check_config(*config);
    if (config->sentences && config->query_time && (!queries || !context))
      optops::fail(OPTOPS_INVALID, "attention: queries or context are missing");
    if (config->sentences && config->memory_time && (!keys || !values))
      optops::fail(OPTOPS_INVALID, "attention: keys or values are missing");
    optops::attend(*config, queries, keys, values, lengths, context, optops::threads_for(threads));
  });
}
