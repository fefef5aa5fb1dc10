"""What was measured of one model on the examples of a split: the metric, and how it might have come out on others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from optops.measurement.bootstrap import bootstrap


@dataclass(frozen=True)
class Sample:
    """One model's metric on the examples of a split.

    Attributes:
        examples: How many there are.
        metric: On all of them.
        resampled: On each bootstrap resample of them, float64 (resamples,); the same resamples for all models.
    """

    examples: int
    metric: float
    resampled: NDArray[np.float64]


def sample(metric: Callable[..., NDArray[np.float64]], statistics: np.ndarray, resamples: int, seed: int) -> Sample:
    """Measures a model by its statistics.

    Args:
        metric: Of a workload; see `Workload.metric`.
        statistics: What the metric is computed from, a row for each example or an object with as many.
        resamples: How many bootstrap resamples to take.
        seed: Of the resamples.
    """
    resampled = bootstrap(partial(metric, statistics), len(statistics), resamples, seed)
    return Sample(len(statistics), float(metric(statistics)[0]), resampled)
