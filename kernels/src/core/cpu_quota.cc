#include "core/cpu_quota.h"

#include <algorithm>
#include <cstdio>

namespace optops {
namespace {

constexpr long long kMostProcessors = 1 << 20;

// Returns what a file begins with; nothing if it can not be read.
std::string start_of(const std::string& file) {
  char buffer[128] = {};
  size_t count = 0;
  if (FILE* stream = std::fopen(file.c_str(), "r")) {
    count = std::fread(buffer, 1, sizeof(buffer), stream);
    std::fclose(stream);
  }
  return std::string(buffer, count);
}

}  // namespace

int processors_in_quota(const std::string& root) {
  std::string text = start_of(root + "/cpu.max");  // "max 100000" if there is no quota
  if (text.empty()) {
    text = start_of(root + "/cpu/cpu.cfs_quota_us") + " " +
           start_of(root + "/cpu/cpu.cfs_period_us");  // -1 if there is no quota
  }
  long long quota = 0, period = 0;
  if (std::sscanf(text.c_str(), "%lld %lld", &quota, &period) != 2) return 0;
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::min(quota / period + (quota % period != 0), kMostProcessors));
}

}  // namespace optops
