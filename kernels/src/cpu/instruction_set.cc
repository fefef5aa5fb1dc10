// All kernels for one instruction set: this file is compiled once for each, with its flags, and
// with OPTOPS_NAMESPACE and OPTOPS_ISA_OF_FILE as its name; see CMakeLists.txt.
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/vector.h"
//
#include "cpu/product.h"
#include "cpu/rows.h"
//
#include "cpu/panels.h"
//
#include "cpu/attention.h"
#include "cpu/choice.h"
#include "cpu/written_attention.h"

namespace optops::OPTOPS_NAMESPACE {

extern const KernelTable kTable;
const KernelTable kTable{
    .isa = Isa::OPTOPS_ISA_OF_FILE,
    .product = {product<Fp32>, product<Bf16>, product<Int8>},
    .round_rows = round_rows,
    .quantize_rows = quantize_rows,
    .int8_bytes = sizeof(Int8::Input),
    .normalize_rows = normalize_rows,
    .activate_rows = activate_rows,
    .softmax_rows = softmax_rows,
    .attend = {attend<Fp32>, attend<Rounded>, attend<Rounded>},
    .write_panels = {write_panels<Fp32>, write_panels<FewRounded>, write_panels<FewRounded>},
    .attend_memory = {attend_memory<Fp32>, attend_memory<FewRounded>, attend_memory<FewRounded>},
    .attend_written = {attend_written<Fp32>, attend_written<Rounded>, attend_written<Rounded>},
    .choose = {choose<Fp32>, choose<Bf16>, choose<Int8>},
    .tile_width = kTileWidth,
    .log_sum = log_sum,
};

}  // namespace optops::OPTOPS_NAMESPACE
