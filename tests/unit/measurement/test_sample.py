"""What is measured of a model: the metric of all examples, and of resamples that it shares with other models."""

import numpy as np

from optops.measurement.bootstrap import bootstrap_weights
from optops.measurement.sample import sample


def mean(values, weights=None):
    return values.mean(keepdims=True) if weights is None else weights @ values / len(values)


def test_the_metric_is_that_of_all_examples_and_of_each_resample():
    values = np.random.default_rng(0).normal(size=40)
    measured = sample(mean, values, resamples=200, seed=3)
    weights = np.concatenate(list(bootstrap_weights(40, 200, 3)))
    assert (measured.examples, measured.metric) == (40, values.mean())
    np.testing.assert_allclose(measured.resampled, [np.average(values, weights=row) for row in weights])


def test_models_share_their_resamples():
    values = np.random.default_rng(0).normal(size=40)
    one, other = (sample(mean, shifted, resamples=200, seed=3) for shifted in (values, values + 2))
    np.testing.assert_allclose(other.resampled - one.resampled, 2)
