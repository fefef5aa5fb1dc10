"""Speed-ups and latencies against simulated truth, and at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optops.measurement.statistics import latency_percentiles, median_interval, ratio_interval

finite = st.floats(-100, 100, allow_subnormal=False)


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
