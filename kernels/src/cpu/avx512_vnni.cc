// The kernels as compiled for one instruction set; CMakeLists.txt gives the flags.
#include <immintrin.h>

#define OPTOPS_NAMESPACE avx512_vnni
#include "cpu/vector.h"
//
#include "cpu/product.h"
#include "cpu/rows.h"
//
#include "cpu/attention.h"

namespace optops {

extern const KernelTable avx512_vnni_kernels;
const KernelTable avx512_vnni_kernels{
    Isa::kAvx512Vnni,
    {avx512_vnni::kProducts[0], avx512_vnni::kProducts[1], avx512_vnni::kProducts[2]},
    avx512_vnni::round_rows,
    avx512_vnni::quantize_rows,
    avx512_vnni::normalize_rows,
    avx512_vnni::attend};

}  // namespace optops
