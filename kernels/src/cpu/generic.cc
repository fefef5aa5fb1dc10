// The kernels as compiled for one instruction set; CMakeLists.txt gives the flags.
#define OPTOPS_NAMESPACE generic
#include "cpu/vector.h"
//
#include "cpu/product.h"
#include "cpu/rows.h"
//
#include "cpu/attention.h"

namespace optops {

extern const KernelTable generic_kernels;
const KernelTable generic_kernels{
    Isa::kGeneric,           {generic::kProducts[0], generic::kProducts[1], generic::kProducts[2]},
    generic::round_rows,     generic::quantize_rows,
    generic::normalize_rows, generic::attend};

}  // namespace optops
