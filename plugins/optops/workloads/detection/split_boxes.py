"""Refuses a split in which nothing is to be found: every model would reach 0 there, and none be worse than another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

_NAMED = 3


def refuse_splits_without_boxes(frame: pd.DataFrame, classes: Sequence[str]) -> None:
    """Looks for a box that counts in every split.

    Args:
        frame: What `read_detection` gives, of all splits together, and a column `split`.
        classes: Names of the classes.

    Raises:
        ValueError: If a split has none; says what its annotations hold instead.
    """
    known = set(classes)
    for split, rows in frame.groupby("split", sort=False):
        boxes = (box for labelled in rows["boxes"] for box in labelled)
        if not any(box.label in known and box.to_be_found for box in boxes):
            raise ValueError(f"the {split} split has no box to be found: {_what_it_has(rows, known)}")


def _what_it_has(rows: pd.DataFrame, known: set[str]) -> str:
    labels = Counter(box.label for labelled in rows["boxes"] for box in labelled)
    number = sum(labels.values())
    if labels.keys() & known:
        return f"its boxes ({number}) are difficult, crowds, without area or of unknown classes; mend the annotations"
    if labels:
        named = ", ".join(repr(label) for label, _ in labels.most_common(_NAMED))
        more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        return f"its boxes ({number}) are of the classes {named}{more}, which `data.classes` does not name; correct it"
    faulty = rows[rows["faults"].map(len) > 0]
    if len(faulty):
        first = faulty.iloc[0]
        return f"{len(faulty)} of its {len(rows)} images have faulty annotations, {first['file']}: {first['faults'][0]}"
    first = rows.iloc[0]
    return (
        f"none of its {len(rows)} images has one. The annotation of {first['image']} is looked for in {first['file']}: "
        "rename the annotations if they are called otherwise; a test set published without labels can judge nothing"
    )
