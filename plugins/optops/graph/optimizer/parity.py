"""Says whether two functions compute the same, within what a precision allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCES = {"fp32": 1e-4, "bf16": 5e-2, "int8": 1e-1}
"""Largest difference, as a share of the output's largest value."""
MASK = 1000.0
"""Numbers from this size on are those of masks where they are the same in both, or all alike: no measure of what stands
beside them."""
ALIKE = 1.01
"""How many times as large as the smallest the largest of numbers that are alike may be."""
AGREEMENT = {"fp32": 1.0, "bf16": 0.95, "int8": 0.9}
"""Share of integers, strings and truth values that must be equal."""


@dataclass(frozen=True)
class Difference:
    """The largest difference that was found.

    Attributes:
        value: As a share of the output's largest value; 1 - agreement for what are no floating-point numbers.
        output: Name of the output.
        fits: Whether it is within the tolerance.
        reason: Why not, for people.
    """

    value: float
    output: str
    fits: bool
    reason: str = ""


def compare(
    wanted: Sequence[Mapping[str, np.ndarray]], found: Sequence[Mapping[str, np.ndarray]], precision: str
) -> Difference:
    """Returns the largest difference between results for the same inputs."""
    worst = Difference(0.0, "", True)
    for one, other in zip(wanted, found, strict=True):
        for name, value in one.items():
            difference = _difference(name, value, other[name], precision)
            if not difference.fits:
                return difference
            worst = max(worst, difference, key=lambda each: each.value)
    return worst


def _difference(name: str, wanted: np.ndarray, found: np.ndarray, precision: str) -> Difference:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        text = f"{name} is {found.dtype} {list(found.shape)} instead of {wanted.dtype} {list(wanted.shape)}"
        return Difference(float("inf"), name, False, text)
    if wanted.size == 0:
        return Difference(0.0, name, True)
    if wanted.dtype.kind not in "fcV" and wanted.dtype.name != "bfloat16":
        share = float(np.mean(wanted != found))
        fits = 1 - share >= AGREEMENT[precision]
        return Difference(share, name, fits, "" if fits else f"{share:.1%} of {name} differ")
    if wanted.dtype.kind == "V" or wanted.dtype.itemsize == 2:
        wanted, found = wanted.astype(np.float32), found.astype(np.float32)
        precision = "bf16" if precision == "fp32" else precision
    return _float_difference(name, wanted, found, precision)


def _float_difference(name: str, wanted: np.ndarray, found: np.ndarray, precision: str) -> Difference:
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return Difference(float("inf"), name, False, f"{name} has other infinities or NaNs")
    size = np.abs(wanted)
    large = finite & (size >= MASK)
    measured = finite & ~((wanted == found) & large)
    masked = measured & large
    if masked.any() and size[large].max() <= ALIKE * size[large].min():
        # A logit on which a mask of -1e4 was added differs in its last bits.
        parts = [masked, measured & ~large]
    else:
        parts = [measured]
    share = max(_share(wanted[part], found[part]) for part in parts)
    fits = share <= TOLERANCES[precision]
    return Difference(share, name, fits, "" if fits else f"{name} differs by {share:.1e} of its largest value")


def _share(wanted: np.ndarray, found: np.ndarray) -> float:
    """Returns the largest difference as a share of the largest value; 0 of nothing."""
    if not wanted.size:
        return 0.0
    largest, gap = float(np.abs(wanted).max()), float(np.abs(wanted - found).max())
    return gap / largest if largest else gap
