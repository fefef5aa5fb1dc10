// The same products through AMX: a unit of its own multiplies tiles of 16 rows by 16 columns; on
// paper it does eight times as many int8 products in a cycle as vectors do.
//
// Packed weights are read as they are: sixteen groups of a panel are the rows of a tile, 256 bytes
// apart. Sums of int8 are the same to the last bit as those of vectors; bfloat16 goes through here
// for any number of rows, so that a row's result does not depend on its neighbours.
//
// Tiles are loaded whole: up to 15 rows beyond the last are read, and their sums thrown away. What
// prepares rows leaves room for that; see rows_with_room.
#include "cpu/kernel_table.h"

namespace optops::OPTOPS_NAMESPACE {

inline constexpr int kTileGroups = 16;
inline constexpr int kTileBytes = 64;  // of a row of a tile

// Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 weights.
struct TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};

  explicit TileShapes(int count) {
    for (int tile = 0; tile < 8; ++tile) {
      bytes_per_row[tile] = kTileBytes;
      rows[tile] = static_cast<uint8_t>(tile < 6 ? count : kTileGroups);
    }
  }
};

// The instructions take tiles by literal number.
#define OPTOPS_MULTIPLY_TILES(sums, rows, weights) \
  if constexpr (Precision::kInteger) {             \
    _tile_dpbusd(sums, rows, weights);             \
  } else {                                         \
    _tile_dpbf16ps(sums, rows, weights);           \
  }

// Sums of up to 16 rows and the whole panel; [16][kVectors].
template <typename Precision, bool Ahead>
static inline void sum_narrow(const uint8_t* x, int64_t x_bytes, const uint8_t* weights,
                              int64_t blocks, typename Precision::Sum* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t block = 0; block < blocks; ++block, weights += kTileGroups * kGroupStride) {
    if constexpr (Ahead) {
      for (int line = 0; line < kTileGroups * kGroupStride; line += 64)
        __builtin_prefetch(weights + kPrefetch + line);
    }
    _tile_loadd(4, x + block * kTileBytes, x_bytes);
    _tile_loadd(6, weights, kGroupStride);
    _tile_loadd(7, weights + kTileBytes, kGroupStride);
    OPTOPS_MULTIPLY_TILES(0, 4, 6)
    OPTOPS_MULTIPLY_TILES(1, 4, 7)
    _tile_loadd(6, weights + 2 * kTileBytes, kGroupStride);
    _tile_loadd(7, weights + 3 * kTileBytes, kGroupStride);
    OPTOPS_MULTIPLY_TILES(2, 4, 6)
    OPTOPS_MULTIPLY_TILES(3, 4, 7)
  }
  _tile_stored(0, sums, kGroupStride);
  _tile_stored(1, sums + 1, kGroupStride);
  _tile_stored(2, sums + 2, kGroupStride);
  _tile_stored(3, sums + 3, kGroupStride);
}

// Sums of up to 32 rows and half a panel; [32][kVectors], of which two vectors are written.
template <typename Precision>
static inline void sum_wide(const uint8_t* x, int64_t x_bytes, const uint8_t* weights,
                            int64_t blocks, typename Precision::Sum* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const uint8_t* second = x + kTileRows * x_bytes;
  for (int64_t block = 0; block < blocks; ++block, weights += kTileGroups * kGroupStride) {
    _tile_loadd(4, x + block * kTileBytes, x_bytes);
    _tile_loadd(6, weights, kGroupStride);
    _tile_loadd(7, weights + kTileBytes, kGroupStride);
    _tile_loadd(5, second + block * kTileBytes, x_bytes);
    OPTOPS_MULTIPLY_TILES(0, 4, 6)
    OPTOPS_MULTIPLY_TILES(1, 4, 7)
    OPTOPS_MULTIPLY_TILES(2, 5, 6)
    OPTOPS_MULTIPLY_TILES(3, 5, 7)
  }
  _tile_stored(0, sums, kGroupStride);
  _tile_stored(1, sums + 1, kGroupStride);
  _tile_stored(2, sums + kTileRows * kVectors, kGroupStride);
  _tile_stored(3, sums + kTileRows * kVectors + 1, kGroupStride);
}

#undef OPTOPS_MULTIPLY_TILES

// As each_tile of product.h.
template <typename Precision, typename Take>
static inline void each_unit_tile(const ProductTask& task, int64_t row_begin, int64_t row_end,
                                  int64_t panel_begin, int64_t panel_end, Take take) {
  using Sum = typename Precision::Sum;
  using Input = typename Precision::Input;
  const auto* x = static_cast<const Input*>(task.x);
  const int64_t x_bytes = task.x_stride * static_cast<int64_t>(sizeof(Input));
  const int64_t blocks = task.groups / kTileGroups, whole = blocks * kTileGroups;
  const int64_t count = row_end - row_begin;
  if (count <= 0) return;
  const TileShapes shapes(count < kTileRows ? static_cast<int>(count) : kTileRows);
  // All 64 bytes must stand in memory: older gcc (PR 114098) believes that the instruction reads
  // only the first eight.
  asm volatile("" : : "r"(&shapes) : "memory");
  _tile_loadconfig(&shapes);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const uint8_t* weights = task.weights + panel * task.groups * kGroupStride;
    const int64_t column = panel * kPanelWidth;
    Sum start[kVectors] = {};
    if constexpr (Precision::kUnsigned) memcpy(start, task.offsets + column, sizeof(start));
    for (int64_t row = row_begin; row < row_end; row += 2 * kTileRows) {
      const auto* from = reinterpret_cast<const uint8_t*>(x + row * task.x_stride);
      const int64_t left = row_end - row, rows = left < 2 * kTileRows ? left : 2 * kTileRows;
      Sum sums[2 * kTileRows][kVectors];
      if (rows > kTileRows) {
        sum_wide<Precision>(from, x_bytes, weights, blocks, sums[0]);
        sum_wide<Precision>(from, x_bytes, weights + 2 * kTileBytes, blocks, sums[0] + 2);
      } else if (row == row_begin) {
        // Few rows: the weights come from memory, and are the larger part of the work.
        sum_narrow<Precision, true>(from, x_bytes, weights, blocks, sums[0]);
      } else {
        sum_narrow<Precision, false>(from, x_bytes, weights, blocks, sums[0]);
      }
      for (int64_t i = 0; i < rows; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[i][v] += start[v];
        for (int64_t group = whole; group < task.groups; ++group) {
          const auto a =
              Precision::activation(x + (row + i) * task.x_stride + group * Precision::kGroup);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v)
            Precision::add(sums[i][v], weights + group * kGroupStride + v * kTileBytes, a);
        }
        take(row + i, column, sums[i]);
      }
    }
  }
  _tile_release();
}

}  // namespace optops::OPTOPS_NAMESPACE
