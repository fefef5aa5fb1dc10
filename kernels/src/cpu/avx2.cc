// The kernels as compiled for one instruction set; CMakeLists.txt gives the flags.
#include <immintrin.h>

#define OPTOPS_NAMESPACE avx2
#include "cpu/vector.h"
//
#include "cpu/product.h"
#include "cpu/rows.h"
//
#include "cpu/attention.h"

namespace optops {

extern const KernelTable avx2_kernels;
const KernelTable avx2_kernels{
    Isa::kAvx2,           {avx2::kProducts[0], avx2::kProducts[1], avx2::kProducts[2]},
    avx2::round_rows,     avx2::quantize_rows,
    avx2::normalize_rows, avx2::attend};

}  // namespace optops
