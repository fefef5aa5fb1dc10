"""Calls to time a model of texts with, few of which show short, middling and long ones."""

from collections.abc import Sequence

import numpy as np

from optops.models.token_ids import Ids, pad_rows


def representative_calls(rows: Sequence[Ids], batch: int, calls: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Returns calls of `batch` rows whose lengths are spread like those of all rows.

    The rows are sorted by length and call k takes evenly spaced ones, each call with another offset; so a few calls of
    one row cover short, middling and long ones as a random draw of so few would not.

    Args:
        rows: The ids of each text, as the model takes them.
        batch: Rows of a call.
        calls: How many calls.
        seed: Of the order within a call.

    Returns:
        `ids` int32 [batch, longest], padded with 0.
    """
    by_length = sorted(rows, key=len)
    random = np.random.default_rng(seed)
    places = (np.arange(calls * batch) + 0.5) / (calls * batch)
    chosen = (places * len(by_length)).astype(int)
    # Dealt out like cards: each call gets rows from the whole range.
    hands = [chosen[offset::calls] for offset in range(calls)]
    return [{"ids": pad_rows([by_length[index] for index in random.permutation(hand)])} for hand in hands]
