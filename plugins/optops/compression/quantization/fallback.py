"""Accuracy-aware fallback: which layers go back to float so that a quantised model stays within its tolerance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stake:
    """What is at stake with one layer.

    Attributes:
        harm: How much its quantisation changes the model's outputs; any unit, the same for all layers.
        saving: What its quantisation saves: milliseconds, or a share of the arithmetic.
    """

    harm: float
    saving: float


@dataclass(frozen=True)
class Fallback:
    """What the search found.

    Attributes:
        reverted: Layers that must stay in float, the one with the most harm for its saving first.
        whole: Quality with every layer quantised.
        quality: Quality with these layers in float; that of the float model if all are.
        required: What it had to reach.
        evaluations: How many times quality was measured.
    """

    reverted: tuple[str, ...]
    whole: float
    quality: float
    required: float
    evaluations: int


def fall_back(
    stakes: Callable[[], Mapping[str, Stake]],
    evaluate: Callable[[frozenset[str]], float],
    required: float,
    unquantized: float,
) -> Fallback:
    """Returns as few and as cheap layers as needed to revert to float.

    Layers are ranked by their harm for what they save. The shortest head of that ranking that is good enough is found
    by doubling and then halving, for more float is hardly ever worse; that takes about 2 log2(k) evaluations for a head
    of k layers, after one of the whole. Then what was reverted needlessly is quantised again, in groups that are halved
    where they are too much: one evaluation if all may be, at most 2 (k - 1) if none may.

    Args:
        stakes: Gives the stake of every quantised layer; called only if the whole is not good enough.
        evaluate: Called with the names of layers in float; returns quality, higher is better, NaN for none.
        required: The smallest quality that is good enough.
        unquantized: Quality with all of them in float, known to be good enough.

    Source: the procedure of Intel Neural Compressor's basic strategy and of NNCF's accuracy control: rank, revert
    greedily, restore.
    """
    search = _Search(evaluate, required)
    whole = search.quality(frozenset())
    if search.enough(frozenset()):
        return Fallback((), whole, whole, required, search.evaluations)
    at_stake = stakes()
    ranking = sorted(at_stake, key=lambda name: _density(at_stake[name]), reverse=True)
    if not ranking:
        return Fallback((), whole, whole, required, search.evaluations)
    search.known[frozenset(ranking)] = unquantized
    head = search.shortest_head(ranking)
    # Without the last of them the head is not good enough: that is known.
    kept = search.restore(frozenset(head), head[:-1][::-1])
    reverted = tuple(name for name in ranking if name in kept)
    return Fallback(reverted, whole, search.quality(kept), required, search.evaluations)


def _density(stake: Stake) -> float:
    return stake.harm / stake.saving if stake.saving > 0 else float("inf")


class _Search:
    """Measures quality, each set of layers once."""

    def __init__(self, evaluate: Callable[[frozenset[str]], float], required: float) -> None:
        self.evaluate, self.required = evaluate, required
        self.known: dict[frozenset[str], float] = {}
        self.evaluations = 0

    def quality(self, layers: frozenset[str]) -> float:
        if layers not in self.known:
            self.evaluations += 1
            self.known[layers] = float(self.evaluate(layers))
        return self.known[layers]

    def enough(self, layers: frozenset[str]) -> bool:
        return self.quality(layers) >= self.required

    def shortest_head(self, ranking: Sequence[str]) -> Sequence[str]:
        """Returns the shortest head of the ranking that is good enough, if more is never worse."""
        short, long = 0, 1
        while long < len(ranking) and not self.enough(frozenset(ranking[:long])):
            short, long = long, 2 * long
        long = min(long, len(ranking))
        while long - short > 1:
            middle = (short + long) // 2
            if self.enough(frozenset(ranking[:middle])):
                long = middle
            else:
                short = middle
        return ranking[:long]

    def restore(self, kept: frozenset[str], candidates: Sequence[str]) -> frozenset[str]:
        """Returns what must stay in float once every candidate that may be quantised again is."""
        if not candidates:
            return kept
        if self.enough(kept - set(candidates)):
            return kept - set(candidates)
        if len(candidates) == 1:
            return kept
        half = len(candidates) // 2
        kept = self.restore(kept, candidates[:half])
        return self.restore(kept, candidates[half:])
