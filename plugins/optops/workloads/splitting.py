"""Splits a corpus by its content: what belongs together stays together, and no run or platform changes it."""

import hashlib
from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def assign_splits(
    groups: NDArray[np.int64], digests: NDArray[np.object_], fractions: Mapping[str, float], seed: int
) -> NDArray[np.str_]:
    """Returns the split of each example, shape [examples].

    A group goes where the hash of its smallest digest and the seed falls, so the order of the examples does not
    matter, and new ones leave the others where they are.

    Args:
        groups: Number of the group of each example; a group is never torn apart.
        digests: Digest of each example's content.
        fractions: Share by split; above 0, sum 1.
        seed: Gives another split.

    Raises:
        ValueError: If the fractions are no shares of a whole.
    """
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"split fractions {dict(fractions)} must be above 0 and sum to 1: correct them")
    representatives = pd.Series(digests, dtype=object).groupby(groups).transform("min")
    places = np.array([_uniform(f"{seed}:{digest}") for digest in representatives])
    bounds = np.array(list(accumulate(fractions.values())))
    bounds[-1] = 1.0
    return np.array(list(fractions))[np.searchsorted(bounds, places, side="right")]


def _uniform(text: str) -> float:
    """Hashes text to [0, 1): 53 bits, so that the quotient is exact in float64 and stays below 1."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 11) / 2**53
