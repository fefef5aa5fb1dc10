// How much of the processors the group of this process may use: a container's limit, which the
// processors that it may run on do not tell.
#ifndef OPTOPS_CORE_CPU_QUOTA_H_
#define OPTOPS_CORE_CPU_QUOTA_H_

#include <string>

namespace optops {

// Returns how many processors a quota allows to be busy at once, rounded up; 0 if there is none.
//
// root: where the files of control groups are, of version 2 (cpu.max) or 1 (cpu/cpu.cfs_quota_us
// and cpu/cpu.cfs_period_us).
int processors_in_quota(const std::string& root);

}  // namespace optops

#endif  // OPTOPS_CORE_CPU_QUOTA_H_
