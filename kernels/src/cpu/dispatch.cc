#include <cstdlib>
#include <cstring>

#include "core/status.h"
#include "cpu/kernel_table.h"

namespace optops {

namespace generic {
extern const KernelTable kTable;
}
#if defined(__x86_64__) && !defined(OPTOPS_GENERIC_ONLY)
namespace avx2 {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}
namespace avx512_vnni {
extern const KernelTable kTable;
}
namespace avx512_bf16 {
extern const KernelTable kTable;
}
namespace amx {
extern const KernelTable kTable;
}
#endif

namespace {

// Best first.
constexpr const KernelTable* kTables[] = {
#if defined(__x86_64__) && !defined(OPTOPS_GENERIC_ONLY)
    &amx::kTable,     &avx512_bf16::kTable, &avx512_vnni::kTable, &avx512::kTable, &avx2::kTable,
#endif
    &generic::kTable,
};

struct Choice {
  const KernelTable* table = nullptr;
  char names[64] = "";
};

Choice choose() {
  Choice choice;
  const char* wanted = std::getenv("OPTOPS_ISA");
  for (const KernelTable* table : kTables) {
    if (!can_run(table->isa)) continue;
    const char* name = isa_name(table->isa);
    if (choice.names[0])
      std::strncat(choice.names, ",", sizeof(choice.names) - std::strlen(choice.names) - 1);
    std::strncat(choice.names, name, sizeof(choice.names) - std::strlen(choice.names) - 1);
    const bool fits = !wanted || !*wanted || std::strcmp(wanted, name) == 0;
    if (fits && !choice.table && acquire(table->isa)) choice.table = table;
  }
  return choice;
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const KernelTable& kernels() {
  if (!choice().table) {
    fail(OPTOPS_UNSUPPORTED,
         "OPTOPS_ISA is %s; this processor and build have %s; unset it or name one",
         std::getenv("OPTOPS_ISA"), choice().names);
  }
  return *choice().table;
}

const char* available_isas() { return choice().names; }

}  // namespace optops
