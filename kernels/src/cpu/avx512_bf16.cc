// The kernels as compiled for one instruction set; CMakeLists.txt gives the flags.
#include <immintrin.h>

#define OPTOPS_NAMESPACE avx512_bf16
#include "cpu/vector.h"
//
#include "cpu/product.h"
#include "cpu/rows.h"
//
#include "cpu/attention.h"

namespace optops {

extern const KernelTable avx512_bf16_kernels;
const KernelTable avx512_bf16_kernels{
    Isa::kAvx512Bf16,
    {avx512_bf16::kProducts[0], avx512_bf16::kProducts[1], avx512_bf16::kProducts[2]},
    avx512_bf16::round_rows,
    avx512_bf16::quantize_rows,
    avx512_bf16::normalize_rows,
    avx512_bf16::attend};

}  // namespace optops
