"""A quick benchmark, before and after in turn, that decides whether a rewritten graph is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SECONDS = 0.5
FEWEST, MOST = 7, 200
NOISE = 1.03
"""What is slower by less than this factor is not called slower."""


@dataclass(frozen=True)
class Rounds:
    """Seconds of two functions that were called in turn, each once a round.

    The ratio is taken within each round, so that what disturbs the machine hits both.

    Attributes:
        before: Of the original, float64 [rounds].
        after: Of what was made of it, float64 [rounds].
    """

    before: np.ndarray
    after: np.ndarray

    @property
    def ratio(self) -> float:
        """The median of after / before, as a logarithm."""
        return float(np.median(np.log(self.after / self.before)))

    @property
    def error(self) -> float:
        """The standard error of `ratio`: 1.2533 sigma / sqrt(n), sigma from the quartiles."""
        low, high = np.percentile(np.log(self.after / self.before), [25, 75])
        return float(1.2533 * (high - low) / 1.349 / np.sqrt(self.before.size))


def interleaved(before: Callable[[], object], after: Callable[[], object], seconds: float = SECONDS) -> Rounds:
    """Calls two functions in turn for some seconds; which one begins changes from round to round."""
    for function in (before, after) * 2:
        function()
    rounds: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(rounds) < FEWEST or (len(rounds) < MOST and time.perf_counter() - start < seconds):
        if len(rounds) % 2:
            second, first = _seconds(after), _seconds(before)
        else:
            first, second = _seconds(before), _seconds(after)
        rounds.append((first, second))
    return Rounds(*np.array(rounds).T)


def _seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


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


def judge(timed: Mapping[str, Sequence[Rounds]]) -> Verdict:
    """Chooses among graphs that are slower than the original on no input.

    The fastest is the one whose calls take the smallest share of the original's, by the geometric mean over the inputs.
    Of those that are as fast, within the noise on every input, the one that was rewritten furthest is taken.

    Args:
        timed: By name of a graph, the furthest last: its rounds with the original for each input.
    """
    shares = {name: float(np.mean([each.ratio for each in rounds])) for name, rounds in timed.items()}
    original = np.mean([np.log(np.median(each.before)) for rounds in timed.values() for each in rounds])
    milliseconds = {"original": float(np.exp(original)) * 1e3}
    milliseconds |= {name: milliseconds["original"] * float(np.exp(share)) for name, share in shares.items()}
    slower = {name: sum(_is_slower(each.ratio, each.error) for each in rounds) for name, rounds in timed.items()}
    left = [name for name in timed if not slower[name]]
    fastest = min(left, key=shares.__getitem__, default=None)
    best = None if fastest is None else [name for name in left if _as_fast(timed[fastest], timed[name])][-1]
    return Verdict(milliseconds, {name: count for name, count in slower.items() if count}, best)


def _as_fast(fastest: Sequence[Rounds], other: Sequence[Rounds]) -> bool:
    return not any(
        _is_slower(two.ratio - one.ratio, float(np.hypot(one.error, two.error)))
        for one, two in zip(fastest, other, strict=True)
    )


def _is_slower(ratio: float, error: float) -> bool:
    """Returns whether a ratio's logarithm is above `NOISE` by more than twice its standard error."""
    return bool(ratio - 2 * error > np.log(NOISE))
