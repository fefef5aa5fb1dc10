"""The bootstrap: a metric on resampled examples, and which of the resamples bound it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

WEIGHTS_AT_ONCE = 4_000_000
NORMAL = NormalDist()
LOWEST_DEVIATE = -6.0


@dataclass(frozen=True)
class Bounds:
    """Where the one-sided bounds of an estimate lie among its sorted resamples.

    Attributes:
        lower_rank: of the resample that is the lower bound, from 0.
        upper_rank: of the one that is the upper bound.
        below: how far the lower bound lies below its resample: 0 unless that is the lowest, and not low enough.
        above: how far the upper bound lies above its resample.
    """

    lower_rank: int
    upper_rank: int
    below: float
    above: float

    def of(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Returns lower and upper bound of what has `values`, float64 (resamples,), on the same resamples."""
        lower, upper = np.sort(values)[[self.lower_rank, self.upper_rank]]
        return float(lower) - self.below, float(upper) + self.above


def bootstrap_weights(examples: int, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """How often each example occurs in each bootstrap resample (Efron 1979), some resamples at a time.

    The same arguments give the same resamples, so models evaluated at different times remain paired. A piece holds
    at most `WEIGHTS_AT_ONCE` numbers, or one resample: a million examples a thousand times over would be 4 GB.

    Args:
        examples: number of examples, at least 1.
        resamples: number of resamples, at least 1.
        seed: of the random generator, not negative.

    Yields:
        int32 (some, examples), `resamples` rows in all; each row sums to `examples`.

    Raises:
        ValueError: a count is below 1.
    """
    if examples < 1 or resamples < 1:
        raise ValueError(f"bootstrap of {examples} examples with {resamples} resamples: both must be at least 1")
    generator = np.random.default_rng(seed)
    rows = max(1, WEIGHTS_AT_ONCE // examples)
    for start in range(0, resamples, rows):
        weights = np.empty((min(rows, resamples - start), examples), dtype=np.int32)
        for row in weights:
            row[:] = np.bincount(generator.integers(0, examples, size=examples), minlength=examples)
        yield weights


def bootstrap(
    metric: Callable[[NDArray[np.int32]], NDArray[np.float64]], examples: int, resamples: int, seed: int
) -> NDArray[np.float64]:
    """The metric on each bootstrap resample; see `bootstrap_weights` for the last three arguments.

    Args:
        metric: takes weights, int32 (some, examples), and gives the metric for each of their rows, (some,).
        examples: number of examples.
        resamples: number of resamples.
        seed: of the random generator.

    Returns:
        float64 (resamples,).
    """
    return np.concatenate([metric(weights) for weights in bootstrap_weights(examples, resamples, seed)])


def bca_bounds(values: NDArray[np.float64], point: float, confidence: float, *, rounding: float) -> Bounds:
    """Bounds an estimate by the bias-corrected and accelerated bootstrap, BCa (Efron 1987).

    A percentile bound takes the resample at rank `(1 - confidence) * resamples`. Where few examples decide, as where a
    model loses few and gains none, the spread is the smaller the fewer these happen to be, and that bound promises too
    much. BCa corrects the rank by the share of resamples below the point estimate (those equal to it count half) and by
    how fast the spread changes with the estimate, the acceleration: a sixth of the skewness of the bootstrap
    distribution, for a mean the same as the usual estimate from its examples.

    Ranks are taken outwards. A level so low that no resample has it is reached beyond the outermost one, as far as
    the first terms of Cornish and Fisher's expansion (1937) say.

    Args:
        values: float64 (resamples,), the estimate on each resample.
        point: the estimate on all examples.
        confidence: of each one-sided bound, between 0.5 and 1.
        rounding: values no further than this from the point estimate are equal to it.

    Returns:
        The bounds; the percentile bounds where nothing is skewed or biased.
    """
    equal = np.abs(values - point) <= rounding
    lower = np.count_nonzero((values < point) & ~equal) + np.count_nonzero(equal) / 2
    bias = NORMAL.inv_cdf(min(max(lower, 0.5), values.size - 0.5) / values.size)
    deviations = values - values.mean()
    spread = float(np.sqrt((deviations**2).mean()))
    acceleration = float((deviations**3).mean()) / spread**3 / 6 if spread > rounding else 0.0
    lower_rank, below = _lower_bound(values - point, bias, acceleration, spread, confidence)
    upper_rank, above = _lower_bound(point - values, -bias, -acceleration, spread, confidence)
    return Bounds(lower_rank, values.size - 1 - upper_rank, below, above)


def _lower_bound(
    deviations: NDArray[np.float64], bias: float, acceleration: float, spread: float, confidence: float
) -> tuple[int, float]:
    """Returns the rank of a lower bound, and how far below its resample it lies."""
    # A lower bound does not lie above the point estimate, however biased the resamples are.
    distance = min(bias + NORMAL.inv_cdf(1 - confidence), 0.0)
    slope = 1 - acceleration * distance
    deviate = max(bias + distance / slope, LOWEST_DEVIATE) if slope > 0 else LOWEST_DEVIATE
    # Rounded first: 1 - 0.9 is a little less than 0.1, and would lose a rank.
    rank = math.floor(round(NORMAL.cdf(deviate) * (deviations.size - 1), 9))
    if rank > 0:
        return rank, 0.0
    expected = spread * (deviate + acceleration * (deviate**2 - 1))
    return 0, max(float(deviations.min()) - expected, 0.0)
