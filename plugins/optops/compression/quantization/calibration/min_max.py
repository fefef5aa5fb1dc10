"""The range of all values that were seen: nothing is clipped, and an outlier takes the resolution from the rest."""

from optops.compression.quantization.calibration.histogram import Histogram
from optops.compression.quantization.rounding import Range, with_zero


def min_max(histogram: Histogram) -> Range:
    """Returns the range from the smallest to the largest value; it holds zero."""
    return with_zero(histogram.smallest, histogram.largest)
