"""The range that loses the least information, by the divergence of Kullback and Leibler, as TensorRT published it."""

import numpy as np
from numpy.typing import NDArray

from optops.compression.quantization.calibration.histogram import Histogram
from optops.compression.quantization.rounding import Range

BINS, LEVELS = 2048, 128


def kullback_leibler(histogram: Histogram) -> Range:
    """Returns the range clipped at the threshold on |x| that `best_threshold` finds; it holds zero."""
    if not histogram.magnitude:
        return histogram.clipped_at(0.0)
    counts = histogram.magnitudes(BINS)
    # The first bin holds the zeros that a rectifier makes; they say nothing about the resolution.
    counts[0] = counts[1]
    return histogram.clipped_at(best_threshold(counts) * histogram.magnitude / BINS)


def best_threshold(counts: NDArray[np.float64], levels: int = LEVELS) -> float:
    """Returns the threshold, in bins, at which a distribution and its quantised form diverge least.

    For every i from `levels` to the number of bins, P is the first i bins with all that lies beyond added to its last;
    Q is those bins without that, merged into `levels` levels as equal as can be (bin j into level j * levels // i),
    each spread evenly over its bins in which P is not zero. The threshold is i + 0.5 for the i with the smallest
    KL(P || Q). Sums over levels are differences of running sums, so all i together take milliseconds.

    Args:
        counts: How many |x| fall into each bin; bins are equally wide and start at zero.
        levels: Magnitudes that the quantised form has.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017.
    """
    bins = len(counts)
    if bins <= levels or not counts.any():
        return float(bins)
    i = np.arange(levels, bins + 1)[:, None]
    # Level l has the bins j with j * levels // i == l: from ceil(l * i / levels) on.
    edges = -(-np.arange(levels + 1)[None] * i // levels)
    total = counts.sum()
    running = np.concatenate([[0.0], np.cumsum(counts)])
    occupied = np.concatenate([[0], np.cumsum(counts > 0)])
    beyond = total - running[i[:, 0]]
    last = counts[i[:, 0] - 1]
    mass = np.diff(running[edges], axis=1)
    spread_over = np.diff(occupied[edges], axis=1).astype(np.float64)
    spread_over[:, -1] += (last == 0) & (beyond > 0)
    inside = running[i]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.log(mass / spread_over / inside)
        entropy = np.concatenate([[0.0], np.cumsum(_xlogx(counts / total))])
        p = mass / total
        p[:, -1] += beyond / total
        cross = np.where(p > 0, p * log_q, 0.0).sum(axis=1)
    p_log_p = entropy[i[:, 0] - 1] + _xlogx((last + beyond) / total)
    divergence = np.where(np.isfinite(cross), p_log_p - cross, np.inf)
    return float(i[int(np.argmin(divergence)), 0]) + 0.5


def _xlogx(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values * np.log(np.where(values > 0, values, 1.0)), 0.0)
