// Tests of how many processors a container may use, by files as Linux writes them.
#include <cstdio>
#include <filesystem>
#include <string>

#include "core/cpu_quota.h"
#include "expect.h"

namespace {

using optops::processors_in_quota;
using optops::tests::expect;

void write(const std::filesystem::path& file, const char* text) {
  std::filesystem::create_directories(file.parent_path());
  FILE* stream = std::fopen(file.c_str(), "w");
  std::fputs(text, stream);
  std::fclose(stream);
}

void quotas_are_rounded_up_to_processors(const std::filesystem::path& root) {
  const auto with = [&](const char* text) {
    write(root / "two" / "cpu.max", text);
    return processors_in_quota(root / "two");
  };
  expect(with("200000 100000\n") == 2, "two processors");
  expect(with("150000 100000\n") == 2, "one and a half are two");
  expect(with("1000 100000\n") == 1, "a hundredth is one");
  expect(with("max 100000\n") == 0, "no quota");
  expect(with("9223372036854775807 1\n") > 0, "an absurd quota is no negative one");
  for (const char* text : {"0 100000\n", "100000 0\n", "100000\n", "many few\n"})
    expect(with(text) == 0, "what makes no sense is no quota");
}

void quotas_of_version_1_count_too(const std::filesystem::path& root) {
  const auto with = [&](const char* quota) {
    write(root / "one" / "cpu" / "cpu.cfs_quota_us", quota);
    write(root / "one" / "cpu" / "cpu.cfs_period_us", "100000\n");
    return processors_in_quota(root / "one");
  };
  expect(with("250000\n") == 3, "two and a half processors are three");
  expect(with("-1\n") == 0, "no quota");
  expect(processors_in_quota(root / "none") == 0, "no files");
}

}  // namespace

int main() {
  std::string pattern = std::filesystem::temp_directory_path() / "optops-quota-XXXXXX";
  const std::filesystem::path root = mkdtemp(pattern.data());
  quotas_are_rounded_up_to_processors(root);
  quotas_of_version_1_count_too(root);
  std::filesystem::remove_all(root);
  return optops::tests::outcome();
}
