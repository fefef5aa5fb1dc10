"""Texts through an executable: tokenised, batched by length, translated, put back in order."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optops.models.token_ids import END, pad_rows
from optops.workloads.base import Report
from optops.workloads.translation.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from optops.runtimes.base import Executable, ExecutableInfo

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
    rows = source_rows(tokenizer, texts, longest if cut else None)
    for index, row in enumerate(rows):
        if longest is not None and len(row) > longest:
            raise ValueError(
                f"text {index} has {len(row)} tokens, the model takes at most {longest}; split it: {texts[index]!r:.60}"
            )
    order = [i for i in sorted(range(len(rows)), key=lambda i: len(rows[i])) if rows[i] != [END]]
    answers = [""] * len(rows)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        outputs = executable({"ids": pad_rows([rows[i] for i in batch])})["ids"]
        for i, text in zip(batch, tokenizer.decode(outputs.tolist()), strict=True):
            answers[i] = text
        if report:
            report(f"{start + len(batch)} of {len(order)} sentences translated")
    return answers


def source_rows(tokenizer: Tokenizer, texts: Sequence[str], longest: int | None) -> list[list[int]]:
    """Returns the ids of each text as an encoder reads them: closed by the end, cut to `longest` if that is given."""
    kept = None if longest is None else longest - 1
    return [[*ids[:kept], END] for ids in tokenizer.encode(texts)]


def longest_input(executable: "Executable") -> int | None:
    """Returns the most tokens that an executable takes, if it says so."""
    info = getattr(executable, "info", None)
    return longest_described(info) if info else None


def longest_described(info: "ExecutableInfo") -> int | None:
    """Returns the most tokens that the executable so described takes, if it has a limit."""
    shape = info.inputs["ids"].get("largest_shape")
    return int(shape[1]) if shape and shape[1] else None
