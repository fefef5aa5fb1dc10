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

// Sets the sums of a tile to what each of its rows starts with. The instructions take tiles by
// literal number.
#define OPTOPS_START_TILE(sums, start)  \
  if constexpr (Precision::kUnsigned) { \
    _tile_loadd(sums, start, 0);        \
  } else {                              \
    _tile_zero(sums);                   \
  }
#define OPTOPS_MULTIPLY_TILES(sums, rows, weights) \
  if constexpr (Precision::kInteger) {             \
    _tile_dpbusd(sums, rows, weights);             \
  } else {                                         \
    _tile_dpbf16ps(sums, rows, weights);           \
  }

// Sums of up to 16 rows and the whole panel; [16][kVectors]. `meanwhile()` is called once for each
// block of the inputs. `kFromMemory`: the weights are the larger part of the work.
template <typename Precision, bool kFromMemory, typename Meanwhile>
static inline void sum_narrow(const uint8_t* x, int64_t x_bytes, const uint8_t* weights,
                              int64_t blocks, const typename Precision::Sum* start,
                              typename Precision::Sum* sums, Meanwhile meanwhile) {
  OPTOPS_START_TILE(0, start)
  OPTOPS_START_TILE(1, start + 1)
  OPTOPS_START_TILE(2, start + 2)
  OPTOPS_START_TILE(3, start + 3)
  for (int64_t block = 0; block < blocks; ++block, weights += kTileGroups * kGroupStride) {
    if constexpr (kFromMemory) {
      for (int64_t line = 0; line < kTileGroups * kGroupStride; line += kLine)
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
    meanwhile();
  }
  _tile_stored(0, sums, kGroupStride);
  _tile_stored(1, sums + 1, kGroupStride);
  _tile_stored(2, sums + 2, kGroupStride);
  _tile_stored(3, sums + 3, kGroupStride);
}

// Sums of up to 32 rows and half a panel; [32][kVectors], of which two vectors are written.
template <typename Precision, typename Meanwhile>
static inline void sum_wide(const uint8_t* x, int64_t x_bytes, const uint8_t* weights,
                            int64_t blocks, const typename Precision::Sum* start,
                            typename Precision::Sum* sums, Meanwhile meanwhile) {
  OPTOPS_START_TILE(0, start)
  OPTOPS_START_TILE(1, start + 1)
  OPTOPS_START_TILE(2, start)
  OPTOPS_START_TILE(3, start + 1)
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
    meanwhile();
  }
  _tile_stored(0, sums, kGroupStride);
  _tile_stored(1, sums + 1, kGroupStride);
  _tile_stored(2, sums + kTileRows * kVectors, kGroupStride);
  _tile_stored(3, sums + kTileRows * kVectors + 1, kGroupStride);
}

#undef OPTOPS_START_TILE
#undef OPTOPS_MULTIPLY_TILES

// Adds the groups that fill no tile to the sums of some rows.
template <typename Precision>
static inline void add_rest(const ProductTask& task, const typename Precision::Input* x,
                            int64_t rows, const uint8_t* weights, int64_t whole,
                            typename Precision::Sum (*sums)[kVectors]) {
  for (int64_t i = 0; i < rows; ++i, x += task.x_stride) {
    for (int64_t group = whole; group < task.groups; ++group) {
      const auto a = Precision::activation(x + group * Precision::kGroup);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        Precision::add(sums[i][v], weights + group * kGroupStride + v * kTileBytes, a);
    }
  }
}

// Sums that are complete, and are handed on a few rows at a time.
template <typename Sum, typename Take>
struct Complete {
  Take* take;
  const Sum (*sums)[kVectors] = nullptr;
  int64_t rows = 0, row = 0, column = 0;

  inline void hand_on(int64_t most) {
    const int64_t count = most < rows ? most : rows;
    if (!count) return;
    (*take)(row, count, column, sums);
    sums += count;
    rows -= count;
    row += count;
  }
};

// As each_tile of product.h. Sums are handed on while the next ones are computed: the unit takes
// its time beside the vectors, which finish outputs meanwhile, and ask memory for what comes next:
// weights, and where these sums will be written.
template <typename Precision, typename Take>
static inline void each_unit_tile(const ProductTask& task, int64_t row_begin, int64_t row_end,
                                  int64_t panel_begin, int64_t panel_end, Take take) {
  using Sum = typename Precision::Sum;
  using Input = typename Precision::Input;
  constexpr int64_t kRowsAtOnce = 2 * kTileRows;
  const auto* x = static_cast<const Input*>(task.x);
  const int64_t x_bytes = task.x_stride * static_cast<int64_t>(sizeof(Input));
  const int64_t blocks = task.groups / kTileGroups, whole = blocks * kTileGroups;
  const int64_t count = row_end - row_begin, panel_bytes = task.groups * kGroupStride;
  if (count <= 0) return;
  const TileShapes shapes(count < kTileRows ? static_cast<int>(count) : kTileRows);
  // All 64 bytes must stand in memory: older gcc (PR 114098) believes that the instruction reads
  // only the first eight.
  asm volatile("" : : "r"(&shapes) : "memory");
  _tile_loadconfig(&shapes);
  const bool few = count <= kTileRows;
  int64_t row_asked = 0, rows_asked_end = 0;
  // Calls of `meanwhile` for the rows of one tile and for a panel, and what each of them has to do.
  const int64_t calls = (few ? 1 : 2) * blocks;
  const int64_t of_panel = (count + kRowsAtOnce - 1) / kRowsAtOnce * calls;
  const int64_t handed = calls ? (kRowsAtOnce + calls - 1) / calls : 0;
  const int64_t asked = few || !of_panel ? 0 : (panel_bytes + of_panel - 1) / of_panel;
  Sum both[2][kRowsAtOnce][kVectors];
  int turn = 0;
  Complete<Sum, Take> complete{&take};
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const uint8_t* weights = task.weights + panel * panel_bytes;
    Sum start[kVectors] = {};
    if constexpr (Precision::kUnsigned)
      memcpy(start, task.offsets + panel * kPanelWidth, sizeof(start));
    asm volatile("" : : "r"(start) : "memory");  // as above: tiles are loaded from it
    const uint8_t* next = weights + panel_bytes;
    const auto meanwhile = [&] {
      complete.hand_on(handed);
      for (int64_t i = 0; i < handed && row_asked < rows_asked_end; ++i, ++row_asked)
        ask_for_outputs(task, row_asked, panel * kPanelWidth);
      for (const uint8_t* end = next + asked; next < end; next += kLine)
        __builtin_prefetch(next, 0, 2);
    };
    for (int64_t row = row_begin; row < row_end; row += kRowsAtOnce) {
      const Input* input = x + row * task.x_stride;
      const auto* from = reinterpret_cast<const uint8_t*>(input);
      const int64_t rows = row_end - row < kRowsAtOnce ? row_end - row : kRowsAtOnce;
      auto& sums = both[turn ^= 1];
      row_asked = row;
      rows_asked_end = row + rows;
      if (rows > kTileRows) {
        sum_wide<Precision>(from, x_bytes, weights, blocks, start, sums[0], meanwhile);
        sum_wide<Precision>(from, x_bytes, weights + 2 * kTileBytes, blocks, start + 2, sums[0] + 2,
                            meanwhile);
      } else if (few) {
        sum_narrow<Precision, true>(from, x_bytes, weights, blocks, start, sums[0], meanwhile);
      } else {
        sum_narrow<Precision, false>(from, x_bytes, weights, blocks, start, sums[0], meanwhile);
      }
      complete.hand_on(complete.rows);
      if (whole < task.groups) add_rest<Precision>(task, input, rows, weights, whole, sums);
      complete = {&take, sums, rows, row, panel * kPanelWidth};
    }
  }
  complete.hand_on(complete.rows);
  _tile_release();
}

}  // namespace optops::OPTOPS_NAMESPACE
