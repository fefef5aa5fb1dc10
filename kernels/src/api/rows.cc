// The C interface: functions of rows.
#include "api/arguments.h"
#include "core/aligned.h"
#include "cpu/kernel_table.h"
#include "layers/product.h"

namespace optops {
namespace {

constexpr int64_t kWidestRow = int64_t{1} << 24;

// Multiplications that one value of a row is worth: an exponential, or the passes of a norm.
constexpr int64_t kValueWork = 16;

void check_rows(const char* name, int64_t rows, int64_t width) {
  if (rows < 0 || rows > kMostRows) {
    fail(OPTOPS_INVALID, "%s: %lld rows; there may be 0 to %lld", name,
         static_cast<long long>(rows), static_cast<long long>(kMostRows));
  }
  if (width < 1 || width > kWidestRow) {
    fail(OPTOPS_INVALID, "%s: rows are %lld wide; they may be 1 to %lld", name,
         static_cast<long long>(width), static_cast<long long>(kWidestRow));
  }
}

// Returns how many of the wanted threads rows are worth.
int threads_for_rows(int64_t rows, int64_t width, int32_t wanted) {
  return threads_worth(threads_for(wanted), rows * width * kValueWork);
}

// Gives each thread its share of the rows, as `function(begin, count, thread)`.
template <typename Function>
void share_rows(int64_t rows, int threads, Function&& function) {
  parallel(threads, [&](Team& team) {
    const Range mine = team.share(rows);
    function(mine.begin, mine.end - mine.begin, team.index());
  });
}

}  // namespace
}  // namespace optops

using optops::fail;

int32_t optops_bias_activation(const float* x, int64_t rows, int64_t width, const float* bias,
                               int32_t activation, float* y, int32_t threads,
                               optops_status* status) {
  return optops::coded(status, [&] {
    optops::check_rows("bias_activation", rows, width);
    if (activation < OPTOPS_LINEAR || activation > OPTOPS_SILU)
      fail(OPTOPS_INVALID, "activation %d is unknown", activation);
    if (!bias || (rows && (!x || !y))) fail(OPTOPS_INVALID, "bias_activation: an array is missing");
    const optops::KernelTable& table = optops::kernels();
    optops::share_rows(rows, optops::threads_for_rows(rows, width, threads),
                       [&](int64_t begin, int64_t count, int) {
                         table.activate_rows(x + begin * width, count, width, bias,
                                             static_cast<optops_activation>(activation),
                                             y + begin * width);
                       });
  });
}

int32_t optops_residual_norm(const float* x, const float* residual, int64_t rows, int64_t width,
                             const float* scale, const float* offset, float epsilon, float* y,
                             int32_t threads, optops_status* status) {
  return optops::coded(status, [&] {
    optops::check_rows("residual_norm", rows, width);
    if (!(epsilon > 0))
      fail(OPTOPS_INVALID, "epsilon is %g; it must be above 0", static_cast<double>(epsilon));
    if (!scale || !offset || (rows && (!x || !y)))
      fail(OPTOPS_INVALID, "residual_norm: an array is missing");
    const optops::KernelTable& table = optops::kernels();
    optops::share_rows(rows, optops::threads_for_rows(rows, width, threads),
                       [&](int64_t begin, int64_t count, int) {
                         const int64_t at = begin * width;
                         table.normalize_rows(x + at, residual ? residual + at : nullptr, count,
                                              width, scale, offset, epsilon, y + at);
                       });
  });
}

int32_t optops_masked_softmax(const float* x, int64_t rows, int64_t width, const int32_t* counts,
                              float* y, int32_t threads, optops_status* status) {
  return optops::coded(status, [&] {
    optops::check_rows("masked_softmax", rows, width);
    if (rows && (!x || !y || !counts)) fail(OPTOPS_INVALID, "masked_softmax: an array is missing");
    for (int64_t row = 0; row < rows; ++row) {
      if (counts[row] < 0 || counts[row] > width) {
        fail(OPTOPS_INVALID, "masked_softmax: row %lld counts %d; it may be 0 to %lld",
             static_cast<long long>(row), counts[row], static_cast<long long>(width));
      }
    }
    const optops::KernelTable& table = optops::kernels();
    const int team = optops::threads_for_rows(rows, width, threads);
    const int64_t room = (width + 15) / 16 * 16;
    static thread_local optops::Scratch<float> scratch;
    const optops::Kept kept(scratch);
    float* rooms = kept->of(team * room);
    optops::share_rows(rows, team, [&](int64_t begin, int64_t count, int thread) {
      table.softmax_rows(x + begin * width, count, width, counts + begin, y + begin * width,
                         rooms + thread * room);
    });
  });
}
