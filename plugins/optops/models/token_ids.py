"""Rows of token ids: which have a meaning in every model, and how rows become an array. Light: serving imports it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[int]

PADDING, BEGIN, END, UNKNOWN = 0, 1, 2, 3
SPECIAL_IDS = 4
"""How many there are: ids from here on stand for text. A classifier shares padding alone, its others are its own."""


def pad_rows(rows: Sequence[Ids], multiple: int = 1) -> NDArray[np.int32]:
    """Returns rows of ids as int32 [rows, time], padded with 0 to the longest one, rounded up to a multiple."""
    longest = max((len(row) for row in rows), default=0)
    padded = np.full((len(rows), max(-(-longest // multiple), 1) * multiple), PADDING, np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
