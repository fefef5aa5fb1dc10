"""Speed-ups and latencies with their confidence bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The fewest queries from which MLPerf LoadGen takes a percentile at 99 % confidence (its early-stopping estimate).
MINIMUM_SAMPLES_P50 = 11
MINIMUM_SAMPLES_P90 = 64
MINIMUM_SAMPLES_P99 = 662


@dataclass(frozen=True)
class RatioInterval:
    """A ratio with its bounds.

    Attributes:
        ratio: point estimate.
        low: lower end of the two-sided interval.
        high: upper end of it.
        lower_bound: one-sided lower bound, the one to gate on.
        confidence: of the two-sided interval and of the one-sided bound alike.
        blocks: number of blocks the estimate rests on.
    """

    ratio: float
    low: float
    high: float
    lower_bound: float
    confidence: float
    blocks: int


def median_interval(
    values: Sequence[float] | NDArray[np.float64], *, confidence: float = 0.95, resamples: int = 2000, seed: int
) -> tuple[float, float, float, float]:
    """Median of a sample with its percentile bootstrap bounds.

    Args:
        values: float (n,), n at least 1.
        confidence: of the two-sided interval and of the one-sided bound.
        resamples: number of bootstrap resamples.
        seed: of the random generator.

    Returns:
        Median, lower and upper end of the two-sided interval, one-sided lower bound.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"an interval needs a one-dimensional sample of finite values, got shape {sample.shape}")
    drawn = np.random.default_rng(seed).integers(0, sample.size, size=(resamples, sample.size))
    medians = np.median(sample[drawn], axis=1)
    tail = (1 - confidence) / 2
    low, high, lower_bound = np.quantile(medians, [tail, 1 - tail, 2 * tail])
    return float(np.median(sample)), float(low), float(high), float(lower_bound)


def ratio_interval(
    log_ratios: Sequence[float] | NDArray[np.float64], *, confidence: float = 0.95, resamples: int = 2000, seed: int
) -> RatioInterval:
    """Ratio of two latencies from the log-ratios of paired blocks, bootstrapped over blocks.

    The estimate is the exponential of the blocks' median, not of their mean: what disturbs a timing on a shared host is
    rare and large, and a mean follows it. The median also keeps its promise with few blocks: with six, nominal 95 %
    bounds of the mean cover 88 % of the time, those of the median 95 % (simulated, normal noise).

    Args:
        log_ratios: float (blocks,), log of reference latency over candidate latency for each block.
        confidence: of the two-sided interval, and of the one-sided lower bound.
        resamples: number of bootstrap resamples.
        seed: of the random generator.

    Returns:
        The ratio with its bounds; above 1 the candidate is faster.

    Raises:
        ValueError: no blocks, or a log-ratio that is not finite.
    """
    bounds = median_interval(log_ratios, confidence=confidence, resamples=resamples, seed=seed)
    ratio, low, high, lower_bound = (math.exp(value) for value in bounds)
    return RatioInterval(ratio, low, high, lower_bound, confidence=confidence, blocks=len(log_ratios))


def latency_percentiles(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """The latency percentiles that a sample is large enough for, by MLPerf LoadGen's minimums.

    Args:
        seconds: float (calls,), the latency of each call in seconds.

    Returns:
        `p50` always, `p90` from 64 calls, `p99` from 662 calls, in seconds.

    Raises:
        ValueError: fewer than 11 calls, or a latency that is not finite.
    """
    sample = np.asarray(seconds, dtype=np.float64)
    if sample.size < MINIMUM_SAMPLES_P50:
        raise ValueError(f"{sample.size} calls are too few for p50: time at least {MINIMUM_SAMPLES_P50}")
    if not np.isfinite(sample).all():
        raise ValueError("a latency is not finite: every call must have been timed")
    minimums = {"p50": MINIMUM_SAMPLES_P50, "p90": MINIMUM_SAMPLES_P90, "p99": MINIMUM_SAMPLES_P99}
    return {
        name: float(np.percentile(sample, int(name[1:])))
        for name, minimum in minimums.items()
        if sample.size >= minimum
    }
