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
    """Name the rows that are also in a later split, which the column `elsewhere` says, see `seen_elsewhere`."""
    return rows.loc[rows["elsewhere"] != "", "elsewhere"].astype(str)


def seen_elsewhere(frame: pd.DataFrame, key: str, what: str) -> pd.Series[str]:
    """Say of each row where a later split (train before validation before test) holds the same; "" for nowhere.

    Training must not see what validation or test measure, nor choices what the test measures: so it is the row of the
    earlier split that is at fault.

    Args:
        frame: All rows, with `id`, `split` and the key; a split of another name takes no part.
        key: Column that is equal for what is the same; rows in which it is empty take no part.
        what: What is there twice, for the reason: "text".
    """
    where = pd.Series("", index=frame.index, dtype=object)
    known = frame[frame[key] != ""]
    for number, split in enumerate(SPLIT_NAMES[:-1]):
        own = known.loc[known["split"] == split, key]
        # The first later split that has it is named, and of several places there the first.
        for later in reversed(SPLIT_NAMES[number + 1 :]):
            held = known[known["split"] == later].drop_duplicates(key).set_index(key)["id"]
            found = own.map(held).dropna().astype(str)
            where[found.index] = f"the same {what} stands in {later}, " + found
    return where.astype(str)
