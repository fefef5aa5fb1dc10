"""What an executable may demand of an input beyond dtype and rank, in the words of `executable.json`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def violation(array: np.ndarray, wanted: Mapping[str, Any]) -> str | None:
    """Returns in what an input violates its constraints, or None if it keeps them.

    Args:
        array: Of the right dtype and rank.
        wanted: May hold `largest_shape` (None is unlimited), `minimum` and `maximum` of all values, and
            `sequences` ({end, pad}: each row is ids without `pad`, closed by `end`, then only `pad`).
    """
    if 0 in array.shape:
        return f"is empty (shape {list(array.shape)}); every size must be at least 1"
    for name, check in CHECKS.items():
        reason = check(array, wanted[name]) if name in wanted else None
        if reason:
            return reason
    return None


def _largest_shape(array: np.ndarray, limits: list[int | None]) -> str | None:
    for axis, (size, limit) in enumerate(zip(array.shape, limits, strict=True)):
        if limit is not None and size > limit:
            return f"has size {size} in dimension {axis}; at most {limit} is served here"
    return None


def _minimum(array: np.ndarray, minimum: float) -> str | None:
    lowest = array.min()
    return f"holds {lowest}; the smallest value allowed is {minimum}" if lowest < minimum else None


def _maximum(array: np.ndarray, maximum: float) -> str | None:
    highest = array.max()
    return f"holds {highest}; the largest value allowed is {maximum}" if highest > maximum else None


def _sequences(array: np.ndarray, ids: Mapping[str, int]) -> str | None:
    real = array != ids["pad"]
    lengths = real.sum(axis=1)
    if not lengths.all():
        return f"has no ids in row {int(np.argmin(lengths))}; every row needs at least the end id {ids['end']}"
    scattered = real[:, 1:] & ~real[:, :-1]
    if scattered.any():
        row = int(np.argmax(scattered.any(axis=1)))
        return f"has ids after padding in row {row}; the padding id {ids['pad']} may only follow the end id"
    last = array[np.arange(len(array)), lengths - 1]
    if (last != ids["end"]).any():
        row = int(np.argmax(last != ids["end"]))
        return f"ends in id {last[row]} in row {row}; every row must be closed by the end id {ids['end']}"
    return None


CHECKS: dict[str, Callable[[np.ndarray, Any], str | None]] = {
    "largest_shape": _largest_shape,
    "minimum": _minimum,
    "maximum": _maximum,
    "sequences": _sequences,
}
