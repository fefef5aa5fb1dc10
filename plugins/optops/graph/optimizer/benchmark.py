"""A quick benchmark, before and after in turn, that decides whether a rewritten graph is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SECONDS = 0.5
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


@dataclass(frozen=True)
class Verdict:
    """What several inputs say about rewritten graphs.

    Attributes:
        milliseconds: Of a call, by name: the geometric mean over the inputs of each one's median.
        slower: On how many inputs a graph is slower than the original, where there are any.
        best: What is to be used; None for the original.
    """

    milliseconds: dict[str, float]
    slower: dict[str, int]
    best: str | None


def judge(times: Sequence[Mapping[str, np.ndarray]]) -> Verdict:
    """Chooses among graphs that are slower than the original on no input.

    The fastest is the one with the smallest geometric mean of medians. Of those that are as fast, within the noise on
    every input, the one that was rewritten furthest is taken.

    Args:
        times: For each input, seconds in each round by name: `original`, then the others, the furthest last.
    """
    medians = {name: [float(np.median(each[name])) for each in times] for name in times[0]}
    milliseconds = {name: float(np.exp(np.mean(np.log(each)))) * 1e3 for name, each in medians.items()}
    names = [name for name in milliseconds if name != "original"]
    counts = {name: _slower_on("original", name, times) for name in names}
    left = [name for name in names if not counts[name]]
    fastest = min(left, key=milliseconds.__getitem__, default=None)
    best = None if fastest is None else [name for name in left if not _slower_on(fastest, name, times)][-1]
    return Verdict(milliseconds, {name: count for name, count in counts.items() if count}, best)


def _slower_on(before: str, after: str, times: Sequence[Mapping[str, np.ndarray]]) -> int:
    return sum(is_slower(each[before], each[after]) for each in times)
