// The processors that this process may run on.
//
// Linux gives each thread a set of its own, which a thread hands on to those that it starts. Who
// calls first may be bound to one processor, and speaks for nobody else: what counts is the set of
// the process's first thread.
#ifndef OPTOPS_CORE_PROCESSORS_H_
#define OPTOPS_CORE_PROCESSORS_H_

namespace optops {

// Returns how many processors this process may keep busy, at least 1: those that it may run on, or
// as many as its container has a quota for if these are fewer. Counted once; anew in a child of
// fork.
int processors();

// Lets the calling thread run wherever the process may.
void run_on_any_processor() noexcept;

}  // namespace optops

#endif  // OPTOPS_CORE_PROCESSORS_H_
