"""What a classifier has to beat: to say one and the same class of everything."""

from typing import TYPE_CHECKING

from optops.workloads.base import NaiveAnswers

if TYPE_CHECKING:
    import pandas as pd


def most_frequent(labels: "pd.Series[str]") -> NaiveAnswers | None:
    """Returns the most frequent of some labels as the answer to all; None if there are no labels."""
    counts = labels.value_counts()
    if counts.empty:
        return None
    label = counts.index[0]
    return NaiveAnswers(f"{label!r} for everything", [label] * len(labels))
