"""Splits a corpus by its content: what belongs together stays together, and no run or platform changes it."""

import hashlib
from collections.abc import Iterable, Mapping
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray


def assign_splits(keys: Iterable[str], fractions: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """Returns the split of each example, shape [examples].

    An example goes where the hash of its key and the seed falls, so the order of the examples does not matter, and
    other examples leave it where it is.

    Args:
        keys: Of each example, what may stand in one split alone, or its digest; without its label, or a label that is
            corrected would move it.
        fractions: Share by split; above 0, sum 1.
        seed: Gives another split.

    Raises:
        ValueError: If the fractions are no shares of a whole.
    """
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"split fractions {dict(fractions)} must be above 0 and sum to 1: correct them")
    places = np.array([_uniform(f"{seed}:{key}") for key in keys])
    bounds = np.array(list(accumulate(fractions.values())))
    bounds[-1] = 1.0
    return np.array(list(fractions))[np.searchsorted(bounds, places, side="right")]


def _uniform(text: str) -> float:
    """Hashes text to [0, 1): 53 bits, so that the quotient is exact in float64 and stays below 1."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 11) / 2**53
