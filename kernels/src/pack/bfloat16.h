// bfloat16: the upper half of a float, rounded to the nearest even.
#ifndef OPTOPS_PACK_BFLOAT16_H_
#define OPTOPS_PACK_BFLOAT16_H_

#include <stdint.h>
#include <string.h>

namespace optops {

static inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  // Rounding would carry a NaN's payload into the sign.
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

}  // namespace optops

#endif  // OPTOPS_PACK_BFLOAT16_H_
