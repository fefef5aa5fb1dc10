"""The label checks of arrays: numbers that are none, examples that say nothing, repetitions and leaks."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from optops.workloads.arrays.reading import arrays_of
from optops.workloads.arrays.settings import CHECKS
from optops.workloads.label_checks import RowCheck
from optops.workloads.repetition import find_elsewhere, find_repeated, seen_elsewhere

_check = partial(RowCheck.standard, CHECKS)


def array_checks(frame: pd.DataFrame, labels: str) -> tuple[pd.DataFrame, list[RowCheck]]:
    """Prepares the checks, for `optops.workloads.label_checks.run_checks`.

    Args:
        frame: What `read_splits` gives, of all splits together, and a column `split`.
        labels: Name of the array with the labels.

    Returns:
        The frame with what a split alone does not tell, and the checks.
    """
    place = ("path", "row")
    checks = [
        _check("not_finite", "No input holds NaN or infinity.", find_not_finite, place, labels=labels),
        _check("constant", "Inputs of more than one number are not all the same.", find_constant, place, labels=labels),
        _check("label_not_finite", "No label is NaN or infinite.", find_label_not_finite, place, labels=labels),
        _check(
            "overlap", "No example stands in two splits.",
            find_elsewhere, ("elsewhere",),
        ),
        _check(
            "duplicate", "No example stands in a split twice.",
            find_repeated, ("digest",), keys=["digest"], what="example",
        ),
        _check(
            "conflicting_label", "Equal inputs have equal labels.",
            find_conflicting_label, ("digest", "input_digest"),
        ),
    ]  # fmt: skip
    return frame.assign(elsewhere=seen_elsewhere(frame, "input_digest", "input")), checks


def find_not_finite(rows: pd.DataFrame, labels: str) -> "pd.Series[str]":
    """Finds inputs that hold NaN or infinity."""
    return _reasons(rows, _inputs(rows, labels), _not_finite)


def find_label_not_finite(rows: pd.DataFrame, labels: str) -> "pd.Series[str]":
    """Finds labels that are NaN or infinite."""
    return _reasons(rows, {labels: arrays_of(rows)[labels]}, _not_finite)


def find_constant(rows: pd.DataFrame, labels: str) -> "pd.Series[str]":
    """Finds inputs whose numbers are all the same; one that is so in every example, such as a mask, is as it is."""

    def constant(flat: np.ndarray) -> np.ndarray:
        same = (flat == flat[:, :1]).all(axis=1)
        return np.zeros(len(flat), bool) if flat.shape[1] < 2 or same.all() else same

    return _reasons(rows, _inputs(rows, labels), constant, "holds the same number everywhere")


def find_conflicting_label(rows: pd.DataFrame) -> "pd.Series[str]":
    """Finds examples with equal inputs and several labels."""
    labels = rows.groupby("input_digest")["digest"].transform("nunique")
    found = rows[labels > 1]
    return "its inputs have " + labels[found.index].astype(str) + " different labels"


def _inputs(rows: pd.DataFrame, labels: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays_of(rows).items() if name != labels}


def _not_finite(flat: np.ndarray) -> np.ndarray:
    none: np.ndarray = ~np.isfinite(flat).all(axis=1)
    return none


def _numbers(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Gives each array of numbers, fields of structured ones by name and field, as [examples, numbers]."""
    for name, array in arrays.items():
        if array.dtype.names:
            yield from _numbers({f"{name}.{field}": array[field] for field in array.dtype.names})
        elif array.dtype.kind in "fiu":
            yield name, array.reshape(len(array), -1)


def _reasons(rows: pd.DataFrame, arrays: dict[str, np.ndarray], is_bad: Any, says: str = "") -> "pd.Series[str]":
    reasons: dict[Any, str] = {}
    for name, numbers in _numbers(arrays):
        for place in np.flatnonzero(is_bad(numbers)):
            reasons.setdefault(rows.index[int(place)], f"array {name!r} {says or 'holds NaN or infinity'}")
    return pd.Series(reasons, dtype=object)
