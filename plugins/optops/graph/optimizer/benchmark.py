"""A quick benchmark, before and after in turn, that decides whether a rewritten graph is kept."""

import time
from collections.abc import Callable, Mapping

import numpy as np

SECONDS = 1.0
FEWEST, MOST = 7, 200
NOISE = 1.03
"""What is slower by less than this factor is not called slower."""


def interleaved(calls: Mapping[str, Callable[[], object]], seconds: float = SECONDS) -> dict[str, np.ndarray]:
    """Returns seconds of each call in each round; in a round every function is called once, in changing order."""
    for function in calls.values():
        function()
        function()
    names = list(calls)
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < FEWEST or (len(rounds) < MOST and time.perf_counter() - start < seconds):
        shift = len(rounds) % len(names)
        times = dict.fromkeys(names, 0.0)
        for name in names[shift:] + names[:shift]:
            begin = time.perf_counter()
            calls[name]()
            times[name] = time.perf_counter() - begin
        rounds.append([times[name] for name in names])
    return dict(zip(names, np.array(rounds).T, strict=True))


def is_slower(before: np.ndarray, after: np.ndarray) -> bool:
    """Returns whether `after` is slower than `before` by more than the noise.

    The ratio is taken within each round, so that what disturbs the machine hits both; it counts as slower where its
    median is above `NOISE` by more than its standard error (1.2533 sigma / sqrt(n), sigma from the quartiles).
    """
    ratios = after / before
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    error = 1.2533 * (high - low) / 1.349 / np.sqrt(ratios.size)
    return bool(middle - 2 * error > NOISE)
