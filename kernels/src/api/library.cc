// The C interface: what this library and this processor can do.
#include "api/arguments.h"
#include "core/thread_pool.h"
#include "cpu/kernel_table.h"

int32_t optops_interface(void) { return OPTOPS_INTERFACE; }

const char* optops_isa(void) {
  return optops::guarded<const char*>(nullptr, "",
                                      [] { return optops::isa_name(optops::kernels().isa); });
}

const char* optops_isas(void) { return optops::available_isas(); }

int32_t optops_threads(void) {
  return optops::guarded<int32_t>(nullptr, 0, [] { return optops::threads_for(0); });
}

void optops_set_threads(int32_t threads) { optops::set_default_threads(threads); }
