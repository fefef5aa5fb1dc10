"""The range of all but a given share of the values."""

import numpy as np

from optops.compression.quantization.calibration.histogram import Histogram
from optops.compression.quantization.rounding import Range, with_zero

SHARE = 99.99


def percentile(histogram: Histogram, share: float = SHARE) -> Range:
    """Returns the range from the (100 - share)-th to the share-th percentile, to within a bin; it holds zero.

    Args:
        histogram: Of a tensor.
        share: In percent, above 50 and at most 100.

    Raises:
        ValueError: If the share is out of range.
    """
    if not 50 < share <= 100:
        raise ValueError(f"percentile: share is {share}; it must be above 50 and at most 100")
    edges = histogram.edges
    below = np.concatenate([[0], np.cumsum(histogram.counts)])
    low, high = np.interp(np.array([100 - share, share]) / 100 * below[-1], below, edges)
    return with_zero(max(float(low), histogram.smallest), min(float(high), histogram.largest))
