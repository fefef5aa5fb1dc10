"""The statistics against their definitions, against simulated truth, and at their edges."""

import json
import math
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from optops.measurement.statistics import (
    WEIGHTS_AT_ONCE,
    NonInferiority,
    Tolerance,
    bootstrap,
    bootstrap_weights,
    estimated_resolution,
    latency_percentiles,
    margins,
    median_interval,
    non_inferiority,
    ratio_interval,
)

finite = st.floats(-100, 100, allow_subnormal=False)
positive = st.floats(0.001, 100)
resampled = hnp.arrays(np.float64, 60, elements=positive)


def examine(candidate, reference, tolerance, **options) -> NonInferiority:
    return non_inferiority(
        candidate,
        reference,
        candidate_point=float(np.mean(candidate)),
        reference_point=float(np.mean(reference)),
        tolerance=tolerance,
        **options,
    )


def all_weights(examples, resamples, seed):
    return np.concatenate(list(bootstrap_weights(examples, resamples, seed)))


def test_bootstrap_rows_sum_to_the_number_of_examples_and_repeat_with_the_seed():
    weights = all_weights(500, 40, seed=3)
    assert weights.dtype == np.int32
    assert weights.shape == (40, 500)
    assert (weights.sum(axis=1) == 500).all()
    np.testing.assert_array_equal(weights, all_weights(500, 40, seed=3))
    assert (weights != all_weights(500, 40, seed=4)).any()


def test_bootstrap_counts_follow_the_binomial_distribution():
    weights = all_weights(100, 1000, seed=0)
    observed = np.bincount(weights.ravel(), minlength=7)[:7] / weights.size
    np.testing.assert_allclose(observed, stats.binom.pmf(np.arange(7), 100, 1 / 100), atol=0.005)


def test_bootstrap_of_a_million_examples_fits_in_memory():
    pieces = bootstrap_weights(1_000_000, 100_000, seed=0)
    assert max(next(pieces).nbytes for _ in range(2)) <= 4 * WEIGHTS_AT_ONCE


def test_the_pieces_of_a_bootstrap_are_its_whole(monkeypatch):
    metric = np.random.default_rng(1).normal(size=500)
    whole = bootstrap(lambda weights: weights @ metric, 500, 40, seed=3)
    monkeypatch.setattr("optops.measurement.statistics.WEIGHTS_AT_ONCE", 3600)
    pieces = [len(piece) for piece in bootstrap_weights(500, 40, seed=3)]
    assert pieces == [7] * 5 + [5]
    np.testing.assert_allclose(bootstrap(lambda weights: weights @ metric, 500, 40, seed=3), whole)


@pytest.mark.parametrize(("examples", "resamples"), [(0, 10), (10, 0)])
def test_an_empty_bootstrap_is_refused(examples, resamples):
    with pytest.raises(ValueError, match="at least 1"):
        all_weights(examples, resamples, seed=0)


@pytest.mark.parametrize(("value", "kind"), [(-0.1, "relative"), (1.0, "relative"), (math.nan, "absolute")])
def test_a_tolerance_outside_its_range_is_refused(value, kind):
    with pytest.raises(ValueError, match="tolerance"):
        Tolerance(value, kind)


def test_the_margin_is_the_published_formula():
    relative, absolute = Tolerance(0.02, "relative"), Tolerance(0.5, "absolute")
    assert margins(29.8, 30.0, relative) == pytest.approx(29.8 - 0.98 * 30.0)
    assert margins(29.8, 30.0, absolute) == pytest.approx(29.8 - 30.0 + 0.5)
    assert margins(3.1, 3.0, relative, higher_is_better=False) == pytest.approx(1.02 * 3.0 - 3.1)
    assert margins(3.1, 3.0, absolute, higher_is_better=False) == pytest.approx(3.0 - 3.1 + 0.5)


@given(values=resampled, kind=st.sampled_from(["relative", "absolute"]), higher_is_better=st.booleans())
def test_equal_models_are_accepted_at_tolerance_zero(values, kind, higher_is_better):
    result = examine(values, values, Tolerance(0.0, kind), higher_is_better=higher_is_better, anomalous_gain=0.0)
    assert result.verdict == "accept"
    assert result.smallest_provable_tolerance == 0
    assert result.difference == result.margin_lower == result.margin_upper == 0


@given(
    candidate=resampled,
    reference=resampled,
    kind=st.sampled_from(["relative", "absolute"]),
    higher_is_better=st.booleans(),
    confidence=st.sampled_from([0.9, 0.95]),
)
def test_the_provable_tolerance_is_exactly_where_the_verdict_turns(
    candidate, reference, kind, higher_is_better, confidence
):
    def lower_bound(tolerance: float) -> float:
        return examine(
            candidate,
            reference,
            Tolerance(tolerance, kind),
            higher_is_better=higher_is_better,
            confidence=confidence,
        ).margin_lower

    smallest = examine(
        candidate, reference, Tolerance(0.0, kind), higher_is_better=higher_is_better, confidence=confidence
    ).smallest_provable_tolerance
    assert smallest is not None
    if kind == "absolute" or smallest < 1:
        assert lower_bound(smallest) >= 0
    below = smallest * (1 - 1e-12)
    if smallest > 1e-9 and (kind == "absolute" or below < 1):
        assert lower_bound(below) < 0


def test_the_provable_tolerance_agrees_with_exact_arithmetic():
    generator = np.random.default_rng(5)
    reference = generator.normal(30, 1, 200)
    candidate = reference - generator.normal(0.2, 0.3, 200)
    needed = sorted((Fraction(r) - Fraction(c)) / Fraction(r) for c, r in zip(candidate, reference, strict=True))
    expected = needed[-1 - 9]  # 9 = floor(0.05 * 199) resamples may lie below zero
    result = examine(candidate, reference, Tolerance(0.01, "relative"))
    assert result.smallest_provable_tolerance == pytest.approx(float(expected), rel=1e-12)


@given(
    candidate=resampled,
    reference=resampled,
    shift=st.floats(0, 50),
    tolerance=st.floats(0, 0.5),
    kind=st.sampled_from(["relative", "absolute"]),
)
def test_a_better_candidate_never_gets_a_worse_verdict(candidate, reference, shift, tolerance, kind):
    order = ["regression", "inconclusive", "accept"]
    before = examine(candidate, reference, Tolerance(tolerance, kind))
    after = examine(candidate + shift, reference, Tolerance(tolerance, kind))
    assert order.index(after.verdict) >= order.index(before.verdict)


@given(candidate=resampled, reference=resampled, tolerance=st.floats(0, 0.5))
def test_the_direction_of_the_metric_mirrors_an_absolute_test(candidate, reference, tolerance):
    limit = Tolerance(tolerance, "absolute")
    up = examine(candidate, reference, limit)
    down = examine(reference, candidate, limit, higher_is_better=False)
    assert (up.verdict, up.margin_lower, up.margin_upper) == (down.verdict, down.margin_lower, down.margin_upper)
    assert up.difference == -down.difference
    assert up.difference_low == -down.difference_high


@pytest.mark.parametrize(
    ("offset", "verdict"), [(0.0, "accept"), (-0.3, "inconclusive"), (-2.0, "regression"), (9.0, "anomalous")]
)
def test_each_verdict_is_reached(offset, verdict):
    generator = np.random.default_rng(1)
    reference = generator.normal(30, 0.5, 1000)
    candidate = reference + generator.normal(offset, 0.1, 1000)
    result = examine(candidate, reference, Tolerance(0.01, "relative"), anomalous_gain=0.2)
    assert result.verdict == verdict
    assert result.margin_lower <= result.margin <= result.margin_upper
    assert result.difference_low <= result.difference <= result.difference_high
    assert result.relative_difference == pytest.approx(result.difference / 30, rel=0.01)
    json.dumps(asdict(result), allow_nan=False)


def test_an_improvement_from_zero_is_anomalous_and_has_no_relative_size():
    result = examine(np.full(100, 0.5), np.zeros(100), Tolerance(0.1, "absolute"), anomalous_gain=0.2)
    assert result.verdict == "anomalous"
    assert result.relative_difference is None


def test_a_relative_tolerance_of_a_zero_reference_is_refused():
    with pytest.raises(ValueError, match="use an absolute tolerance"):
        examine(np.full(100, 0.5), np.zeros(100), Tolerance(0.1, "relative"))


def test_no_relative_tolerance_is_provable_where_the_reference_is_zero_on_resamples():
    reference = np.r_[np.zeros(50), np.ones(50)]
    result = examine(reference + 0.5, reference, Tolerance(0.1, "relative"), higher_is_better=False)
    assert result.smallest_provable_tolerance is None
    assert result.verdict == "regression"


def test_values_that_are_not_finite_and_shapes_that_differ_are_refused():
    good, tolerance = np.ones(100), Tolerance(0.1, "relative")
    bad = good.copy()
    bad[7] = np.nan
    with pytest.raises(ValueError, match="candidate's metric is NaN or infinite on 1 of 100"):
        examine(bad, good, tolerance)
    with pytest.raises(ValueError, match=r"\(99,\), reference \(100,\)"):
        examine(good[:99], good, tolerance)
    with pytest.raises(ValueError, match="reference's metric is nan"):
        non_inferiority(good, good, candidate_point=1.0, reference_point=math.nan, tolerance=tolerance)
    with pytest.raises(ValueError, match="use at least 20"):
        examine(good[:10], good[:10], tolerance)


def test_the_lower_bound_covers_the_truth_as_often_as_it_says():
    # Paired scores with a known mean loss of 0.03: the bound must lie below the true margin in 95 % of all test sets.
    generator = np.random.default_rng(11)
    examples, trials, covered = 200, 400, 0
    weights = all_weights(examples, 400, seed=2) / examples
    for _ in range(trials):
        reference = generator.beta(4, 2, examples)
        candidate = reference - generator.normal(0.03, 0.1, examples)
        lower = non_inferiority(
            weights @ candidate,
            weights @ reference,
            candidate_point=candidate.mean(),
            reference_point=reference.mean(),
            tolerance=Tolerance(0.05, "relative"),
        ).margin_lower
        covered += lower <= (4 / 6 - 0.03) - 0.95 * (4 / 6)
    assert stats.binomtest(covered, trials, 0.95).pvalue > 0.001


def test_the_ratio_interval_covers_the_truth_despite_outliers():
    generator = np.random.default_rng(4)
    trials, within, above = 300, 0, 0
    for trial in range(trials):
        blocks = math.log(1.5) + generator.normal(0, 0.02, 12)
        disturbed = generator.random(12) < 0.15
        blocks[disturbed] += generator.normal(0, 0.5, disturbed.sum())
        interval = ratio_interval(blocks, resamples=500, seed=trial)
        within += interval.low <= 1.5 <= interval.high
        above += interval.lower_bound <= 1.5
        assert interval.low <= interval.lower_bound <= interval.ratio <= interval.high
        assert interval.blocks == 12
    assert within / trials > 0.9
    assert above / trials > 0.9


@given(values=hnp.arrays(np.float64, st.integers(1, 30), elements=finite))
def test_the_median_interval_holds_the_median(values):
    median, low, high, lower_bound = median_interval(values, resamples=200, seed=0)
    assert median == np.median(values)
    assert low <= lower_bound <= high
    assert values.min() <= low
    assert high <= values.max()


def test_an_interval_without_finite_values_is_refused():
    for values in ([], [1.0, math.inf]):
        with pytest.raises(ValueError, match="finite values"):
            ratio_interval(values, seed=0)


@pytest.mark.parametrize(
    ("calls", "names"),
    [(11, {"p50"}), (63, {"p50"}), (64, {"p50", "p90"}), (661, {"p50", "p90"}), (662, {"p50", "p90", "p99"})],
)
def test_a_percentile_is_given_only_from_enough_calls(calls, names):
    seconds = np.random.default_rng(0).permutation(np.arange(calls) / 1000)
    percentiles = latency_percentiles(seconds)
    assert set(percentiles) == names
    assert percentiles["p50"] == pytest.approx((calls - 1) / 2000)


def test_too_few_calls_are_refused():
    with pytest.raises(ValueError, match="10 calls are too few"):
        latency_percentiles(np.ones(10))


def test_the_estimated_resolution_is_that_of_a_paired_test_with_its_assumed_spread():
    assert estimated_resolution(10_000) == pytest.approx(0.004)
    generator = np.random.default_rng(0)
    weights = all_weights(1000, 1000, seed=0) / 1000
    reference = np.ones(1000)
    candidate = reference + stats.zscore(generator.normal(size=1000)) * 0.25
    result = examine(weights @ candidate, weights @ reference, Tolerance(0.1, "relative"))
    assert result.smallest_provable_tolerance == pytest.approx(estimated_resolution(1000), rel=0.2)
    with pytest.raises(ValueError, match="at least 1"):
        estimated_resolution(0)
