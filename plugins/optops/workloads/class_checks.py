"""Label checks of classes: known, not too rare, and one for what is the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import pandas as pd

from optops.spelling import nearest

_NAMED_CLASSES: Final = 10
_MISSPELLED: Final = 100
"""More different labels than these are no misspellings, and comparing them all would take long."""


def enumerate_classes(classes: Sequence[str]) -> str:
    """Say the classes in words, the first of many."""
    return ", ".join(classes[:_NAMED_CLASSES]) + (", ..." if len(classes) > _NAMED_CLASSES else "")


def find_unknown_class(rows: pd.DataFrame, classes: Sequence[str]) -> pd.Series[str]:
    """Name examples whose label is no class, with the nearest one if any is near."""
    unknown = rows.loc[~rows["label"].isin(classes), "label"].astype(object)
    told = explain_unknown(unknown.unique(), classes)
    return unknown.map({label: f"label {label!r:.60} {reason}" for label, reason in told.items()}).astype(str)


def explain_unknown(labels: Collection[str], classes: Sequence[str]) -> dict[str, str]:
    """Say of each label that it is none of the classes, and which one is near if any is."""
    known = enumerate_classes(classes)
    meant = {label: nearest(label, classes) for label in labels if len(labels) <= _MISSPELLED}
    return {
        label: f"is none of {known}" + (f"; did you mean {near!r}?" if near else "")
        for label, near in ((label, meant.get(label)) for label in labels)
    }


def find_rare_class(rows: pd.DataFrame, classes: Sequence[str], min_share: float) -> pd.Series[str]:
    """Name the first example of each rare class; the first of the split stands for classes that have none.

    Args:
        rows: All rows of one split, with `label`.
        classes: All classes.
        min_share: A class with a smaller share of the rows is rare.
    """
    counts = rows["label"].value_counts()
    reasons: dict[Any, str] = {}
    absent = [name for name in classes if name not in counts]
    if absent:
        reasons[rows.index[0]] = f"the split has no example of {', '.join(map(repr, absent))}"
    rare = {name for name in classes if 0 < counts.get(name, 0) < min_share * len(rows)}
    for index, label in rows.loc[rows["label"].isin(rare), "label"].drop_duplicates().items():
        own = f"class {label!r} has {counts[label]} of {len(rows)} examples, {counts[label] / len(rows):.1%}"
        reasons[index] = f"{reasons[index]}; {own}" if index in reasons else own
    found = pd.Series(reasons, dtype=object).astype(str)
    return found.loc[rows.index.intersection(found.index)]


def find_conflicting_class(rows: pd.DataFrame, key: str) -> pd.Series[str]:
    """Name the examples that are the same and have not the same label.

    Args:
        rows: All rows of one split, with `id`, `label` and the key.
        key: Column that is equal for what is the same; rows in which it is empty take no part.
    """
    told = rows[(rows[key] != "") & rows[key].duplicated(keep=False)]
    labels = told.groupby(key, sort=False)["label"].transform("nunique")
    conflicting = told[labels > 1]
    first: dict[str, dict[str, str]] = {}
    for name, content, label in zip(conflicting["id"], conflicting[key], conflicting["label"], strict=True):
        first.setdefault(content, {}).setdefault(label, name)
    reasons = []
    for content, label in zip(conflicting[key], conflicting["label"], strict=True):
        other, name = next((found, name) for found, name in first[content].items() if found != label)
        reasons.append(f"labelled {label!r}, and {other!r} in {name}")
    return pd.Series(reasons, index=conflicting.index, dtype=str)
