"""Decides whether a model is as good as another by the confidence bounds of a paired test: non-inferiority."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optops.measurement.bootstrap import Bounds, bca_bounds

Verdict = Literal["accept", "regression", "inconclusive", "anomalous"]

ROUNDING = 1e-12
"""Share of a metric that two of its values may differ by and be the same, summed in another order."""

NEGLIGIBLE = 1e-6
"""Share of a metric that float arithmetic in another order may cost a model that breaks nothing."""

TYPICAL_RESOLUTION = 0.4
"""Of one example; see `estimated_resolution`."""


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
        examples: number of examples that both answered.
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
            `anomalous` (a gain proved too large to believe; where there is a limit).
        smallest_provable_tolerance: the smallest tolerance of the same kind at which margin_lower would be >= 0 on
            these resamples; None where no tolerance of this kind would do, and where the examples are too few.
        identical: whether no resample tells the two apart, so that the bounds are those of what no example shows.
        examples_needed: how many examples scored alike would prove the tolerance; None where the two are told apart,
            and where no number would.
    """

    candidate_point: float
    reference_point: float
    tolerance: Tolerance
    higher_is_better: bool
    confidence: float
    examples: int
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
    identical: bool
    examples_needed: int | None

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in a few words."""
        least = least_examples(self.confidence)
        if self.examples < least:
            level = f"{self.confidence * 100:.3g} %"
            return f"fewer than {least} examples prove nothing at {level}, and these are {self.examples}"
        if self.identical and self.verdict == "inconclusive":
            if self.examples_needed is not None:
                return f"all {self.examples} examples are scored alike; {self.examples_needed} would prove it"
            if self.reference_point == 0:
                return f"both score 0 on all {self.examples} examples, which bounds no loss"
            return f"{self.examples} examples scored alike never prove that nothing is lost"
        return {
            "accept": "the lower bound is not below zero",
            "regression": "the upper bound is below zero",
            "inconclusive": "zero lies between the bounds",
            "anomalous": "the gain is too large to believe",
        }[self.verdict]


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


def unseen_share(examples: int, confidence: float) -> float:
    """The largest share of a kind of examples that chance may keep out of a test of so many (the rule of three).

    Args:
        examples: number of examples, at least 1.
        confidence: with which a larger share would have shown itself.

    Returns:
        `1 - (1 - confidence) ** (1 / examples)`, about 3 / examples at 95 %.
    """
    return -math.expm1(math.log1p(-confidence) / examples)


def least_examples(confidence: float) -> int:
    """The fewest examples that prove anything: 5 at 95 %, 8 at 99.5 %.

    Of a model that does worse as often as better, n examples all speak well with a chance of 2^-n. So few also have a
    spread of their own that is far below the true one: 0 of a single example.
    """
    return math.ceil(round(-math.log2(1 - confidence), 9))


def examples_needed(share: float, confidence: float) -> int | None:
    """The number of examples with an `unseen_share` of no more than this; None for a share of nothing."""
    if share < np.finfo(float).eps:
        return None
    alike = 1 if share >= 1 else math.ceil(round(math.log1p(-confidence) / math.log1p(-share), 9))
    return max(alike, least_examples(confidence))


def non_inferiority(
    candidate: ArrayLike,
    reference: ArrayLike,
    *,
    candidate_point: float,
    reference_point: float,
    examples: int,
    tolerance: Tolerance,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    anomalous_gain: float | None = None,
    fails_whole: bool = True,
) -> NonInferiority:
    """Tests whether a candidate is worse than a reference by no more than the tolerance.

    The candidate passes where the one-sided lower bound of D over shared resamples is not below zero (paired bootstrap,
    Efron & Tibshirani 1993, section 13.3; see `margins` for D and `bca_bounds` for the bound). The correction of the
    bound is that of the gain, so that it does not depend on the tolerance and the smallest provable one has an exact
    solution.

    The bootstrap knows nothing of examples of a kind that the test does not show (`unseen_share`). Where the candidate
    loses on no resample all of these count as lost, each at what the reference has. Where it loses, the lower bound of
    the gain lies at least as far below the gain as they would take it: a word here and there tells nothing of an answer
    that fails whole. Fewer than the `least_examples` prove nothing, whatever their bounds are.

    Args:
        candidate: float (resamples,), the metric of the candidate on each resample.
        reference: float (resamples,), that of the reference on the same resamples.
        candidate_point: the metric of the candidate on all examples.
        reference_point: that of the reference.
        examples: number of examples, at least 1.
        tolerance: the allowed loss.
        higher_is_better: the direction of the metric.
        confidence: of each one-sided bound, between 0.5 and 1.
        anomalous_gain: a gain relative to the reference that is not believed if it is proved; None for no limit.
        fails_whole: whether a model may fail on an example of a kind and on no other, so that what is not shown counts.

    Returns:
        The verdict with its arithmetic.

    Raises:
        ValueError: shapes differ, a value is not finite, there are too few resamples for the confidence, or the
            tolerance is relative and the reference metric is negative, or zero where higher is better.
    """
    candidate_values, reference_values = _resampled(candidate, reference, confidence)
    _check_points(candidate_point, reference_point, reference_values, tolerance, higher_is_better=higher_is_better)
    gains = _gains(candidate_values, reference_values, higher_is_better=higher_is_better)
    gain = float(_gains(candidate_point, reference_point, higher_is_better=higher_is_better))
    magnitude = max(abs(candidate_point), abs(reference_point))
    rounding = ROUNDING * magnitude
    identical = bool(np.abs(gains).max() <= rounding)
    lossless = bool(gains.min() >= -NEGLIGIBLE * magnitude)
    unseen = unseen_share(examples, confidence) * abs(reference_point) if fails_whole else 0.0
    if identical:
        gains, reference_values = np.zeros_like(gains), np.full_like(gains, reference_point)
        bounds = Bounds(0, 0, below=unseen, above=unseen)
    else:
        bounds = _bounds(gains, gain, confidence, rounding=rounding, lossless=lossless, unseen=unseen)
    scale = reference_values if tolerance.kind == "relative" else np.ones_like(gains)
    gain_low, gain_high = bounds.of(gains)
    lower, upper = bounds.of(gains + tolerance.value * scale)
    believed = anomalous_gain is None or bounds.of(gains - anomalous_gain * np.abs(reference_values))[0] <= 0
    # Of a reference that has nothing, what is not seen counts as nothing: no bound at all.
    bounded = examples >= least_examples(confidence) and (not (identical and fails_whole) or reference_point != 0)
    difference = float(candidate_point - reference_point)
    return NonInferiority(
        candidate_point=float(candidate_point),
        reference_point=float(reference_point),
        tolerance=tolerance,
        higher_is_better=higher_is_better,
        confidence=confidence,
        examples=examples,
        resamples=len(gains),
        difference=difference,
        difference_low=gain_low if higher_is_better else -gain_high,
        difference_high=gain_high if higher_is_better else -gain_low,
        interval_confidence=2 * confidence - 1,
        relative_difference=difference / abs(float(reference_point)) if reference_point else None,
        margin=float(margins(candidate_point, reference_point, tolerance, higher_is_better=higher_is_better)),
        margin_lower=lower,
        margin_upper=upper,
        verdict=_verdict(lower, upper, believed=believed, bounded=bounded),
        smallest_provable_tolerance=_smallest_provable_tolerance(gains, scale, bounds) if bounded else None,
        identical=identical,
        examples_needed=_needed(tolerance, reference_point, confidence) if identical else None,
    )


def estimated_resolution(examples: int, confidence: float = 0.95) -> float:
    """The relative tolerance that a test of this many examples can typically prove: an estimate.

    Two versions of one model agree on most examples, so the paired standard error of their relative difference is about
    0.25 / sqrt(n); the one-sided 95 % bound lies 1.64 of these below, about 0.4 / sqrt(n). However alike the two are,
    it is no less than the `unseen_share`. Known before any model exists, and no substitute for
    `smallest_provable_tolerance`, which is measured.

    Args:
        examples: number of test examples, at least 1.
        confidence: of the test.

    Returns:
        A relative tolerance, for example 0.004 for 10,000 examples.

    Raises:
        ValueError: no examples.
    """
    if examples < 1:
        raise ValueError(f"the resolution of a test with {examples} examples is undefined: give at least 1")
    return max(TYPICAL_RESOLUTION / math.sqrt(examples), unseen_share(examples, confidence))


def estimated_examples(tolerance: float, confidence: float = 0.95) -> int | None:
    """How many test examples typically prove a relative tolerance, by `estimated_resolution`; None for one of 0."""
    alike = examples_needed(tolerance, confidence)
    return None if alike is None else max(math.ceil((TYPICAL_RESOLUTION / tolerance) ** 2), alike)


def _gains(candidate: ArrayLike, reference: ArrayLike, *, higher_is_better: bool) -> NDArray[np.float64]:
    difference = np.asarray(candidate, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return difference if higher_is_better else -difference


def _bounds(
    gains: NDArray[np.float64], gain: float, confidence: float, *, rounding: float, lossless: bool, unseen: float
) -> Bounds:
    """Returns the bounds of the gain, the lower one as far down as what no example shows takes it."""
    bounds = bca_bounds(gains, gain, confidence, rounding=rounding)
    short = unseen if lossless else max(unseen - (gain - bounds.of(gains)[0]), 0.0)
    return replace(bounds, below=bounds.below + short)


def _needed(tolerance: Tolerance, reference_point: float, confidence: float) -> int | None:
    if reference_point == 0:
        return None
    share = tolerance.value if tolerance.kind == "relative" else tolerance.value / abs(reference_point)
    return examples_needed(share, confidence)


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
    candidate_point: float,
    reference_point: float,
    reference: NDArray[np.float64],
    tolerance: Tolerance,
    *,
    higher_is_better: bool,
) -> None:
    for name, point in (("candidate", candidate_point), ("reference", reference_point)):
        if not math.isfinite(point):
            raise ValueError(f"the {name}'s metric is {point!r}: it must be finite")
    if tolerance.kind != "relative":
        return
    lowest = min(reference_point, float(reference.min()))
    if lowest < 0 or (reference_point == 0 and higher_is_better):
        raise ValueError(
            f"the reference metric is {reference_point:g} (on resamples down to {reference.min():g}), "
            "of which a fraction is no meaningful tolerance: use an absolute tolerance, or mend the reference"
        )


def _verdict(lower: float, upper: float, *, believed: bool, bounded: bool) -> Verdict:
    if not bounded:
        return "inconclusive"
    if not believed:
        return "anomalous"
    if lower >= 0:
        return "accept"
    return "regression" if upper < 0 else "inconclusive"


def _smallest_provable_tolerance(
    gains: NDArray[np.float64], scale: NDArray[np.float64], bounds: Bounds
) -> float | None:
    """The lower bound is an order statistic of D, and each D grows with the tolerance: solve each, sort, pick."""
    losses = bounds.below - gains
    needed = np.where(losses <= 0, 0.0, np.inf)
    np.divide(losses, scale, out=needed, where=(scale > 0) & (losses > 0))
    smallest = float(np.sort(needed)[-1 - bounds.lower_rank])
    if not math.isfinite(smallest):
        return None
    # The division rounds: step to the float at which the bound really is reached.
    while (short := bounds.of(gains + smallest * scale)[0]) < 0:
        smallest = max(smallest - short / float(scale.max()), math.nextafter(smallest, math.inf))
    return smallest
