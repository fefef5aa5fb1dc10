// How errors travel inside the library: thrown as `Error`, caught at the C border and written into
// a status.
#ifndef OPTOPS_CORE_STATUS_H_
#define OPTOPS_CORE_STATUS_H_

#include <cstdarg>
#include <cstdio>
#include <new>

#include "core/floating_point.h"
#include "optops/kernels.h"

namespace optops {

struct Error {
  optops_status status;
};

// Throws an Error with a message in the manner of printf.
[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(optops_code code,
                                                                    const char* format, ...) {
  Error error{{code, {}}};
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error.status.message, sizeof(error.status.message), format, arguments);
  va_end(arguments);
  throw error;
}

// Runs a function of the C interface; whatever it throws ends in the status, never beyond the
// border.
template <typename Result, typename Function>
Result guarded(optops_status* status, Result otherwise, Function&& function) noexcept {
  const FloatingPoint environment;
  optops_status outcome{OPTOPS_OK, {}};
  Result result = otherwise;
  try {
    result = function();
  } catch (const Error& error) {
    outcome = error.status;
  } catch (const std::bad_alloc&) {
    outcome = {OPTOPS_OUT_OF_MEMORY, "out of memory"};
  } catch (...) {
    outcome = {OPTOPS_INVALID, "an unexpected error inside the library"};
  }
  if (status) *status = outcome;
  return result;
}

}  // namespace optops

#endif  // OPTOPS_CORE_STATUS_H_
