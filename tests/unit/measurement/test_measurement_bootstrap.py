"""Resamples against their distribution, bounds against SciPy's."""

import numpy as np
import pytest
from scipy import stats

from optops.measurement.bootstrap import WEIGHTS_AT_ONCE, bca_bounds, bootstrap, bootstrap_weights


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
    monkeypatch.setattr("optops.measurement.bootstrap.WEIGHTS_AT_ONCE", 3600)
    pieces = [len(piece) for piece in bootstrap_weights(500, 40, seed=3)]
    assert pieces == [7] * 5 + [5]
    np.testing.assert_allclose(bootstrap(lambda weights: weights @ metric, 500, 40, seed=3), whole)


@pytest.mark.parametrize(("examples", "resamples"), [(0, 10), (10, 0)])
def test_an_empty_bootstrap_is_refused(examples, resamples):
    with pytest.raises(ValueError, match="at least 1"):
        all_weights(examples, resamples, seed=0)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal"])
def test_the_bounds_are_those_of_scipy(draw, confidence):
    sample = getattr(np.random.default_rng(3), draw)(size=60)
    theirs = stats.bootstrap(
        (sample,), np.mean, confidence_level=2 * confidence - 1, n_resamples=20_000, method="BCa", random_state=1
    )
    resampled, point = theirs.bootstrap_distribution, sample.mean()
    lower, upper = bca_bounds(resampled, point, confidence, rounding=0.0).of(resampled)
    within = 0.05 * resampled.std()
    assert lower == pytest.approx(theirs.confidence_interval.low, abs=within)
    assert upper == pytest.approx(theirs.confidence_interval.high, abs=within)


def test_without_skew_and_bias_the_bounds_are_percentiles():
    values = np.arange(-50.0, 51.0)
    assert bca_bounds(values, 0.0, 0.95, rounding=0.0).of(values) == (-45.0, 45.0)


def test_a_level_that_no_resample_has_is_reached_beyond_the_last_one():
    # Three lost examples of many, in 200 resamples: the bound of 99.5 % is that of the Poisson distribution.
    lost = -np.random.default_rng(0).poisson(3, 200).astype(float)
    lower, _ = bca_bounds(lost, -3.0, 0.995, rounding=0.0).of(lost)
    exact = next(mean for mean in np.arange(3, 30, 0.01) if stats.poisson.cdf(3, mean) <= 0.005)
    assert lower < lost.min()
    assert lower == pytest.approx(-exact, rel=0.15)


def test_a_bound_of_resamples_that_all_lie_on_one_side_is_one_of_them():
    values = np.random.default_rng(0).normal(size=500)
    lower, upper = bca_bounds(values, 10.0, 0.95, rounding=0.0).of(values)
    assert values.min() <= lower <= upper
    assert upper >= values.max()
