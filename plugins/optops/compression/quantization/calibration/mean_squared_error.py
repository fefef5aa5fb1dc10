"""The range with the smallest squared error of rounding and clipping together."""

import numpy as np

from optops.compression.quantization.calibration.histogram import Histogram
from optops.compression.quantization.rounding import Range, grid_of

STEPS_PER_OCTAVE, OCTAVES = 16, 8


def mean_squared_error(histogram: Histogram) -> Range:
    """Returns the range whose rounding to 8 bits changes the values least; it holds zero.

    Thresholds on |x| are tried from the largest value down to 1/256 of it, each 4 % below the one before; values count
    where the middle of their bin lies, and exact zeros not at all, for rounding leaves them as they are.
    """
    occupied = np.flatnonzero(histogram.counts_without_zeros)
    if not len(occupied):
        return histogram.clipped_at(0.0)
    counts = histogram.counts_without_zeros[occupied].astype(np.float64)
    middles = (histogram.edges[occupied] + histogram.edges[occupied + 1]) / 2
    thresholds = histogram.magnitude * np.exp2(-np.arange(STEPS_PER_OCTAVE * OCTAVES + 1) / STEPS_PER_OCTAVE)
    ranges = [histogram.clipped_at(float(threshold)) for threshold in thresholds]
    errors = [np.sum(counts * np.square(grid_of(limits).round(middles) - middles)) for limits in ranges]
    return ranges[int(np.argmin(errors))]  # the widest of equally good ones
