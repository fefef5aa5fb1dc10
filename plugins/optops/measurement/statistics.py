"""Decides on quality and speed by confidence bounds: non-inferiority, speed-up intervals, latency percentiles."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Verdict = Literal["accept", "regression", "inconclusive", "anomalous"]

# The fewest queries from which MLPerf LoadGen takes a percentile at 99 % confidence (its early-stopping estimate).
MINIMUM_SAMPLES_P50 = 11
MINIMUM_SAMPLES_P90 = 64
MINIMUM_SAMPLES_P99 = 662

WEIGHTS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Tolerance:
    """How much worse than the reference a candidate may be.

    Args:
        value: the allowed loss, not negative: a fraction of the reference metric where `kind` is `relative` (below 1),
            in units of the metric where it is `absolute`.
        kind: `relative` or `absolute`.

    Raises:
        ValueError: the value is outside its range, or the kind is unknown.
    """

    value: float
    kind: Literal["relative", "absolute"]

    def __post_init__(self) -> None:
        if self.kind not in ("relative", "absolute"):
            raise ValueError(f"tolerance kind {self.kind!r} is unknown: use 'relative' or 'absolute'")
        if not math.isfinite(self.value) or self.value < 0 or (self.kind == "relative" and self.value >= 1):
            allowed = "at least 0 and below 1" if self.kind == "relative" else "finite and at least 0"
            raise ValueError(f"{self.kind} tolerance {self.value!r} must be {allowed}")


@dataclass(frozen=True)
class NonInferiority:
    """What a non-inferiority test found, with its arithmetic.

    Attributes:
        candidate_point: the metric of the candidate on all examples.
        reference_point: the metric of the reference on all examples.
        tolerance: the allowed loss.
        higher_is_better: the direction of the metric.
        confidence: of each one-sided bound of the margin.
        resamples: number of bootstrap resamples.
        difference: candidate minus reference, in units of the metric.
        difference_low: lower end of its two-sided interval at `interval_confidence`.
        difference_high: upper end of it.
        interval_confidence: `2 * confidence - 1`, 0.9 where the bounds are at 0.95.
        relative_difference: difference over the reference's magnitude; None where the reference is 0.
        margin: the tested quantity D on all examples; not negative where the loss is within the tolerance.
        margin_lower: one-sided lower bound of D.
        margin_upper: one-sided upper bound of D.
        verdict: `accept` (margin_lower >= 0), `regression` (margin_upper < 0), `inconclusive` (zero between them),
            `anomalous` (a gain too large to believe, whatever the bounds say; where there is a limit).
        smallest_provable_tolerance: the smallest tolerance of the same kind at which margin_lower would be >= 0 on
            these resamples; None where no tolerance of this kind would do.
    """

    candidate_point: float
    reference_point: float
    tolerance: Tolerance
    higher_is_better: bool
    confidence: float
    resamples: int
    difference: float
    difference_low: float
    difference_high: float
    interval_confidence: float
    relative_difference: float | None
    margin: float
    margin_lower: float
    margin_upper: float
    verdict: Verdict
    smallest_provable_tolerance: float | None


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


def margins(
    candidate: ArrayLike, reference: ArrayLike, tolerance: Tolerance, *, higher_is_better: bool = True
) -> NDArray[np.float64]:
    """The tested quantity D: what is left of the tolerance after the candidate's loss.

    For a metric where higher is better D is `candidate - (1 - tolerance) * reference` (relative) or `candidate -
    reference + tolerance` (absolute); where lower is better `(1 + tolerance) * reference - candidate` or `reference -
    candidate + tolerance`.

    Args:
        candidate: the metric of the candidate, any shape.
        reference: the metric of the reference on the same resamples, same shape, not negative where the tolerance is
            relative.
        tolerance: the allowed loss.
        higher_is_better: the direction of the metric.

    Returns:
        float64 D of the same shape, in units of the metric.
    """
    reference = np.asarray(reference, dtype=np.float64)
    scale = reference if tolerance.kind == "relative" else np.ones_like(reference)
    return _gains(candidate, reference, higher_is_better=higher_is_better) + tolerance.value * scale


def non_inferiority(
    candidate: ArrayLike,
    reference: ArrayLike,
    *,
    candidate_point: float,
    reference_point: float,
    tolerance: Tolerance,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    anomalous_gain: float | None = None,
) -> NonInferiority:
    """Tests whether a candidate is worse than a reference by no more than the tolerance.

    The candidate passes where the one-sided lower percentile bound of D over shared resamples is not below zero (paired
    bootstrap, Efron & Tibshirani 1993, section 13.3; see `margins` for D). The bounds are order statistics, taken
    outwards, so that the smallest provable tolerance has an exact solution.

    Args:
        candidate: float (resamples,), the metric of the candidate on each resample.
        reference: float (resamples,), that of the reference on the same resamples.
        candidate_point: the metric of the candidate on all examples.
        reference_point: that of the reference.
        tolerance: the allowed loss.
        higher_is_better: the direction of the metric.
        confidence: of each one-sided bound, between 0.5 and 1.
        anomalous_gain: a gain relative to the reference above which the result is not believed; None for no limit.

    Returns:
        The verdict with its arithmetic.

    Raises:
        ValueError: shapes differ, a value is not finite, there are too few resamples for the confidence, or the
            tolerance is relative and the reference metric is zero or negative.
    """
    candidate_values, reference_values = _resampled(candidate, reference, confidence)
    _check_points(candidate_point, reference_point, reference_values, tolerance)
    gains = _gains(candidate_values, reference_values, higher_is_better=higher_is_better)
    differences = candidate_values - reference_values
    margin = margins(candidate_values, reference_values, tolerance, higher_is_better=higher_is_better)
    gain = float(_gains(candidate_point, reference_point, higher_is_better=higher_is_better))
    lower, upper = _lower_bound(margin, confidence), -_lower_bound(-margin, confidence)
    difference = float(candidate_point - reference_point)
    return NonInferiority(
        candidate_point=float(candidate_point),
        reference_point=float(reference_point),
        tolerance=tolerance,
        higher_is_better=higher_is_better,
        confidence=confidence,
        resamples=len(candidate_values),
        difference=difference,
        difference_low=_lower_bound(differences, confidence),
        difference_high=-_lower_bound(-differences, confidence),
        interval_confidence=2 * confidence - 1,
        relative_difference=difference / abs(float(reference_point)) if reference_point else None,
        margin=float(margins(candidate_point, reference_point, tolerance, higher_is_better=higher_is_better)),
        margin_lower=lower,
        margin_upper=upper,
        verdict=_verdict(lower, upper, anomalous=_is_anomalous(gain, reference_point, anomalous_gain)),
        smallest_provable_tolerance=_smallest_provable_tolerance(gains, reference_values, tolerance.kind, confidence),
    )


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


def estimated_resolution(examples: int) -> float:
    """The relative tolerance that a paired test of this many examples can typically prove: an estimate.

    Two versions of one model agree on most examples, so the paired standard error of their relative difference is about
    0.25 / sqrt(n); the one-sided 95 % bound lies 1.64 of these below, about 0.4 / sqrt(n). Known before any model
    exists, and no substitute for `smallest_provable_tolerance`, which is measured.

    Args:
        examples: number of test examples, at least 1.

    Returns:
        A relative tolerance, for example 0.004 for 10,000 examples.

    Raises:
        ValueError: no examples.
    """
    if examples < 1:
        raise ValueError(f"the resolution of a test with {examples} examples is undefined: give at least 1")
    return 0.4 / math.sqrt(examples)


def _gains(candidate: ArrayLike, reference: ArrayLike, *, higher_is_better: bool) -> NDArray[np.float64]:
    difference = np.asarray(candidate, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return difference if higher_is_better else -difference


def _lower_bound(values: NDArray[np.float64], confidence: float) -> float:
    rank = _tail_rank(values.size, confidence)
    return float(np.partition(values, rank)[rank])


def _tail_rank(resamples: int, confidence: float) -> int:
    # Rounded first: 1 - 0.9 is a little less than 0.1, and would lose a rank.
    return math.floor(round((1 - confidence) * (resamples - 1), 9))


def _resampled(candidate: ArrayLike, reference: ArrayLike, confidence: float) -> tuple[NDArray[Any], NDArray[Any]]:
    candidate_values, reference_values = (np.asarray(values, dtype=np.float64) for values in (candidate, reference))
    if candidate_values.ndim != 1 or candidate_values.shape != reference_values.shape:
        raise ValueError(
            f"candidate has shape {candidate_values.shape}, reference {reference_values.shape}: "
            "both need (resamples,), computed on the same resamples"
        )
    for name, values in (("candidate", candidate_values), ("reference", reference_values)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise ValueError(
                f"the {name}'s metric is NaN or infinite on {bad} of {values.size} resamples: "
                "the workload must define its metric on every resample"
            )
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence {confidence!r} must lie between 0.5 and 1")
    needed = math.ceil(round(1 / (1 - confidence), 6))
    if candidate_values.size < needed:
        raise ValueError(
            f"{candidate_values.size} resamples can not give a {confidence:g} bound: use at least {needed}"
        )
    return candidate_values, reference_values


def _check_points(
    candidate_point: float, reference_point: float, reference: NDArray[np.float64], tolerance: Tolerance
) -> None:
    for name, point in (("candidate", candidate_point), ("reference", reference_point)):
        if not math.isfinite(point):
            raise ValueError(f"the {name}'s metric is {point!r}: it must be finite")
    if tolerance.kind == "relative" and (reference_point <= 0 or reference.min() < 0):
        raise ValueError(
            f"the reference metric is {reference_point:g} (on resamples down to {reference.min():g}), "
            "of which a fraction is no meaningful tolerance: use an absolute tolerance, or mend the reference"
        )


def _is_anomalous(gain: float, reference_point: float, anomalous_gain: float | None) -> bool:
    return anomalous_gain is not None and gain > 0 and gain > anomalous_gain * abs(reference_point)


def _verdict(lower: float, upper: float, *, anomalous: bool) -> Verdict:
    if anomalous:
        return "anomalous"
    if lower >= 0:
        return "accept"
    return "regression" if upper < 0 else "inconclusive"


def _smallest_provable_tolerance(
    gains: NDArray[np.float64], reference: NDArray[np.float64], kind: str, confidence: float
) -> float | None:
    """The lower bound is an order statistic of D, and each D grows with the tolerance: solve each, sort, pick."""
    scale = reference if kind == "relative" else np.ones_like(reference)
    needed = np.where(gains >= 0, 0.0, np.inf)
    np.divide(-gains, scale, out=needed, where=(scale > 0) & (gains < 0))
    smallest = float(np.sort(needed)[-1 - _tail_rank(needed.size, confidence)])
    if not math.isfinite(smallest):
        return None
    # The division rounds: step to the float at which the bound really is reached.
    while _lower_bound(gains + smallest * scale, confidence) < 0:
        smallest = math.nextafter(smallest, math.inf)
    return smallest
