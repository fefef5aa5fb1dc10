// The kernels as compiled for one instruction set; CMakeLists.txt gives the flags.
#include <immintrin.h>

#define OPTOPS_NAMESPACE avx512
#include "cpu/vector.h"
//
#include "cpu/product.h"
#include "cpu/rows.h"
//
#include "cpu/attention.h"

namespace optops {

extern const KernelTable avx512_kernels;
const KernelTable avx512_kernels{
    Isa::kAvx512,           {avx512::kProducts[0], avx512::kProducts[1], avx512::kProducts[2]},
    avx512::round_rows,     avx512::quantize_rows,
    avx512::normalize_rows, avx512::attend};

}  // namespace optops
