"""Label checks of what is there twice: earlier in its split, or in a split that is judged on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from optops.workloads.splits import SPLIT_NAMES


def find_repeated(rows: pd.DataFrame, keys: Sequence[str], what: str) -> pd.Series[str]:
    """Name every repetition, all but the first occurrence.

    Args:
        rows: All rows of one split, with `id`.
        keys: Columns that must all be equal; rows in which the first of them is empty take no part.
        what: What is there twice, for the reason: "text".
    """
    known = rows[rows[keys[0]] != ""]
    first = known.groupby(list(keys), sort=False)["id"].transform("first")
    return (f"the same {what} as " + first[known.duplicated(list(keys))]).astype(str)


def find_elsewhere(rows: pd.DataFrame) -> pd.Series[str]:
    """Name the rows that are also in another split, which the column `elsewhere` says, see `seen_elsewhere`."""
    return rows.loc[rows["elsewhere"] != "", "elsewhere"].astype(str)


def seen_elsewhere(frame: pd.DataFrame, key: str, what: str) -> pd.Series[str]:
    """Say of each row where another split holds the same; "" for nowhere.

    Training must not see what validation or test measure, nor choices what the test measures. The row of the earlier
    split (train before validation before test) is at fault, and quarantine removes it from training; what it spoils is
    the later split, which may be so small that all of it is next to nothing of the earlier one. So both are told, and
    each split is judged by its own share.

    Args:
        frame: All rows, with `id`, `split` and the key; a split of another name takes no part.
        key: Column that is equal for what is the same; rows in which it is empty take no part.
        what: What is there twice, for the reason: "text".
    """
    where = pd.Series("", index=frame.index, dtype=object)
    known = frame[frame[key] != ""]
    for split in SPLIT_NAMES:
        own = known.loc[known["split"] == split, key]
        # The first of the splits that have it is named, and of several places there the first.
        for other in reversed(other_splits(split)):
            held = known[known["split"] == other].drop_duplicates(key).set_index(key)["id"]
            found = own.map(held).dropna().astype(str)
            where[found.index] = f"the same {what} stands in {other}, " + found
    return where.astype(str)


def other_splits(split: str) -> tuple[str, ...]:
    """Returns the splits that must not hold what one of them holds: those after it first, then those before it."""
    number = SPLIT_NAMES.index(split)
    return SPLIT_NAMES[number + 1 :] + SPLIT_NAMES[:number]
