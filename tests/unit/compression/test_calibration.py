"""Calibration finds ranges in one pass that keeps no examples, as the published algorithms do with all of them."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optops.compression.quantization.calibration import CALIBRATORS, Histogram
from optops.compression.quantization.calibration.histogram import BINS
from optops.compression.quantization.calibration.kullback_leibler import best_threshold
from optops.compression.quantization.calibration.percentile import percentile
from optops.compression.quantization.rounding import grid_of

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
PIECES = st.lists(arrays(np.float32, st.integers(1, 40), elements=FINITE), min_size=1, max_size=5)


def histogram_of(*pieces):
    histogram = Histogram("x")
    for piece in pieces:
        histogram.add(np.asarray(piece))
    return histogram


def published_threshold(bins, levels):
    """The pseudo-code of the slides, in plain Python: bins of |x| in, threshold in bins out."""
    best, chosen = math.inf, len(bins)
    for i in range(levels, len(bins) + 1):
        p = [float(count) for count in bins[:i]]
        p[-1] += sum(bins[i:])
        sums, places = [0.0] * levels, [[] for _ in range(levels)]
        for j in range(i):
            sums[j * levels // i] += bins[j]
            if p[j] > 0:
                places[j * levels // i].append(j)
        q = [0.0] * i
        for level in range(levels):
            for j in places[level]:
                q[j] = sums[level] / len(places[level])
        p_total, q_total, divergence = sum(p), sum(q), 0.0
        for one, other in zip(p, q, strict=True):
            if one > 0:
                divergence += math.inf if other == 0 else one / p_total * math.log(one / p_total * q_total / other)
        if divergence < best - 1e-15:
            best, chosen = divergence, i
    return chosen + 0.5


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_is_that_of_the_published_pseudo_code(seed):
    generator = np.random.default_rng(seed)
    values = np.abs(generator.normal(size=3000))
    values[: seed * 3] *= 5
    bins = np.histogram(values, bins=200)[0].astype(np.float64)
    assert best_threshold(bins, levels=16) == published_threshold(bins.tolist(), 16)


def test_sparse_distributions_have_the_published_threshold_too():
    generator = np.random.default_rng(1)
    bins = np.where(generator.random(150) < 0.3, generator.integers(1, 50, 150), 0).astype(np.float64)
    assert best_threshold(bins, levels=16) == published_threshold(bins.tolist(), 16)


def test_outliers_of_a_bell_curve_are_clipped_by_the_divergence():
    values = np.random.default_rng(0).normal(size=200_000)
    values[:20] = 60
    low, high = CALIBRATORS["kullback_leibler"](histogram_of(values))
    assert 2.5 < high < 8
    assert -8 < low < -2.5
    assert CALIBRATORS["min_max"](histogram_of(values))[1] == 60


def test_a_uniform_distribution_keeps_its_full_range():
    values = np.random.default_rng(0).uniform(-1, 1, size=500_000)
    for name, calibrator in CALIBRATORS.items():
        low, high = calibrator(histogram_of(values))
        assert low == pytest.approx(-1, abs=0.02), name
        assert high == pytest.approx(1, abs=0.02), name


def test_the_range_of_least_squares_is_that_of_a_search_over_all_values():
    values = np.random.default_rng(2).normal(size=1_000_000)
    values[0] = 20

    def noise(limits):
        return np.square(grid_of(limits).round(values) - values).mean()

    thresholds = np.linspace(3, 20, 40)
    searched = min(noise((max(values.min(), -t), min(values.max(), t))) for t in thresholds)
    found = noise(CALIBRATORS["mean_squared_error"](histogram_of(values)))
    assert found <= 1.02 * searched
    assert found < 0.8 * noise(CALIBRATORS["min_max"](histogram_of(values)))


def test_a_percentile_leaves_its_share_of_the_values_beyond_to_within_a_bin():
    values = np.random.default_rng(3).normal(size=100_000)
    histogram = histogram_of(values)
    width = histogram.edges[1] - histogram.edges[0]
    for share in (99.0, 99.9, 100.0):
        low, high = percentile(histogram, share)
        beyond = (100 - share) / 100
        assert np.mean(values < low - width) <= beyond <= np.mean(values < low + width) + 1e-9
        assert np.mean(values > high + width) <= beyond <= np.mean(values > high - width) + 1e-9
    with pytest.raises(ValueError, match="share is 40"):
        percentile(histogram, 40)


@given(PIECES)
@settings(max_examples=60)
def test_a_histogram_depends_on_values_alone_not_on_their_order_or_pieces(pieces):
    streamed, reversed_, at_once = (
        histogram_of(*pieces),
        histogram_of(*pieces[::-1]),
        histogram_of(np.concatenate(pieces)),
    )
    for other in (reversed_, at_once):
        np.testing.assert_array_equal(streamed.counts, other.counts)
        np.testing.assert_array_equal(streamed.edges, other.edges)
        assert (streamed.smallest, streamed.largest) == (other.smallest, other.largest)


@given(PIECES)
@settings(max_examples=60)
def test_no_count_is_lost_while_the_range_grows_and_every_value_is_in_its_bin(pieces):
    histogram, values = histogram_of(*pieces), np.concatenate(pieces)
    assert histogram.counts.sum() == len(values)
    assert histogram.magnitudes(64).sum() == pytest.approx(len(values))
    assert histogram.counts[BINS:].sum() == np.count_nonzero(values >= 0)
    middle = np.median(histogram.edges[histogram.edges >= 0])
    assert histogram.counts[histogram.edges[:-1] >= middle].sum() == np.count_nonzero(values >= middle)


@given(PIECES)
@settings(max_examples=40)
def test_every_range_holds_zero_and_nothing_that_was_never_seen(pieces):
    histogram, values = histogram_of(*pieces), np.concatenate(pieces)
    for calibrator in CALIBRATORS.values():
        low, high = calibrator(histogram)
        assert low <= 0 <= high
        assert low < high
        assert (low >= min(values.min(), 0) and high <= max(values.max(), 0)) or (low, high) == (0, 1)


@given(PIECES)
@settings(max_examples=40)
def test_rounding_errs_by_half_a_step_and_leaves_zero_alone(pieces):
    values = np.concatenate(pieces)
    limits = CALIBRATORS["min_max"](histogram_of(values))
    grid = grid_of(limits)
    errors = np.abs(grid.round(values).astype(np.float64) - values)
    # The ends may be half a step off, since zero must be on the grid.
    assert errors.max() <= 1.001 * float(grid.scale)
    assert grid.round(np.zeros(1, np.float32))[0] == 0


def test_zeros_alone_give_a_range_in_which_they_are_exact():
    for calibrator in CALIBRATORS.values():
        assert calibrator(histogram_of(np.zeros(10))) == (0, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_the_tensors_name(bad):
    histogram = Histogram("block1/relu")
    with pytest.raises(ValueError, match="1 of the values of tensor 'block1/relu' are NaN or infinite"):
        histogram.add(np.array([1.0, bad]))


def test_a_large_tensor_takes_a_few_megabytes_to_count():
    values = np.random.default_rng(0).normal(size=8_000_000).astype(np.float32)
    histogram = Histogram("x")
    tracemalloc.start()
    histogram.add(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert histogram.counts.sum() == len(values)
    assert peak < 12 << 20
