"""Texts through an executable: tokenised, batched by length, translated, put back in order."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optops.workloads.base import Report
from optops.workloads.translation.tokenizer import END, PADDING, load_tokenizer

if TYPE_CHECKING:
    from optops.runtimes.base import Executable

BATCH = 64


def translate(
    executable: "Executable", texts: Sequence[str], assets: Path, *, cut: bool, report: Report | None = None
) -> list[str]:
    """Returns the translation of each text; one without content translates to an empty text.

    Args:
        executable: `ids` int32 [batch, length] in, `ids` out.
        texts: In the source language.
        assets: Holds the tokenizer.
        cut: Whether a text that is longer than the model takes is cut rather than refused.
        report: Gets lines of progress.

    Raises:
        ValueError: If a text is too long and `cut` is false.
    """
    tokenizer = load_tokenizer(assets)
    longest = longest_input(executable)
    rows = [[*ids, END] if ids else [] for ids in tokenizer.encode(texts)]
    for index, row in enumerate(rows):
        if longest is not None and len(row) > longest:
            if not cut:
                raise ValueError(
                    f"text {index} has {len(row)} tokens, the model takes at most {longest}; split it: "
                    f"{texts[index]!r:.60}"
                )
            rows[index] = [*row[: longest - 1], END]
    order = [i for i in sorted(range(len(rows)), key=lambda i: len(rows[i])) if rows[i]]
    answers = [""] * len(rows)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        outputs = executable({"ids": pad([rows[i] for i in batch])})["ids"]
        for i, text in zip(batch, tokenizer.decode(outputs.tolist()), strict=True):
            answers[i] = text
        if report:
            report(f"{start + len(batch)} of {len(order)} sentences translated")
    return answers


def longest_input(executable: "Executable") -> int | None:
    """Returns the most tokens that an executable takes, if it says so."""
    info = getattr(executable, "info", None)
    shape = info.inputs["ids"].get("largest_shape") if info else None
    return int(shape[1]) if shape and shape[1] else None


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns int32 [rows, longest], padded with 0."""
    padded = np.full((len(rows), max(map(len, rows))), PADDING, np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def representative_calls(
    texts: Sequence[str], assets: Path, batch: int, calls: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Returns calls of `batch` sentences whose lengths are spread like those of the texts.

    The texts are sorted by length and call k takes evenly spaced ones, each call with another offset; so a few calls
    of one sentence cover short, middling and long ones as a random draw of so few would not.
    """
    rows = [[*ids, END] for ids in load_tokenizer(assets).encode([text for text in texts if text.strip()])]
    rows.sort(key=len)
    random = np.random.default_rng(seed)
    places = (np.arange(calls * batch) + 0.5) / (calls * batch)
    chosen = (places * len(rows)).astype(int)
    # Dealt out like cards: each call gets sentences from the whole range.
    hands = [chosen[offset::calls] for offset in range(calls)]
    return [{"ids": pad([rows[i] for i in random.permutation(hand)])} for hand in hands]
