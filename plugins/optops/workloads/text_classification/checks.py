"""Which label checks labelled texts undergo, and what they look for.

Each `find_` function takes all examples of a split and returns the reasons of the defective ones, see
`optops.workloads.label_checks.FindDefects`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import pandas as pd

from optops.workloads.class_checks import (
    enumerate_classes,
    find_conflicting_class,
    find_rare_class,
    find_unknown_class,
)
from optops.workloads.label_checks import RowCheck
from optops.workloads.repetition import find_elsewhere, find_repeated, seen_elsewhere
from optops.workloads.text_classification.settings import CHECKS, Thresholds
from optops.workloads.text_judges import judge_content, judge_decoding, judge_markup
from optops.workloads.text_lines import normalise

_BOTH: Final = ("text", "label")
_RARE: Final = 0.5
"""A class that has this share of what it had if all had the same is not rare, however many classes there are."""

_check = partial(RowCheck.standard, CHECKS)


def text_checks(
    frame: pd.DataFrame, classes: Sequence[str], thresholds: Thresholds
) -> tuple[pd.DataFrame, list[RowCheck]]:
    """Prepare the checks of labelled texts, for `optops.workloads.label_checks.run_checks`.

    Args:
        frame: What `read_texts` gives, of all splits together, and a column `split`.
        classes: All labels.
        thresholds: What counts as a defect.

    Returns:
        The frame with the columns `normalised` and `elsewhere` added, and the checks.
    """
    normalised = pd.Series([normalise(text) for text in frame["text"]], index=frame.index, dtype=object)
    prepared = frame.assign(normalised=normalised)
    checks = [*_form_checks(), *_content_checks(classes, thresholds), *_repetition_checks()]
    return prepared.assign(elsewhere=seen_elsewhere(prepared, "normalised", "text")), checks


def _form_checks() -> list[RowCheck]:
    return [
        _check(
            "malformed", "Every record has the fields of the file's format.",
            find_malformed, ("flaw", *_BOTH), _BOTH,
        ),
        _check("empty_text", "Every example holds text.", find_empty, _BOTH),
        _check(
            "undecodable",
            "Text is UTF-8, without replacement and control characters and without mojibake such as 'Ã¼'.",
            find_undecodable, (*_BOTH, "decodable"), _BOTH,
        ),
        _check("markup", "No HTML tag or character reference is left over.", find_markup, _BOTH),
    ]  # fmt: skip


def _content_checks(classes: Sequence[str], thresholds: Thresholds) -> list[RowCheck]:
    # Of many classes none can have much.
    least = min(thresholds.min_class_share, _RARE / len(classes))
    return [
        _check(
            "unknown_class", f"Every label is one of the classes: {enumerate_classes(classes)}.",
            find_unknown_class, ("label", "text"), classes=list(classes),
        ),
        _check(
            "too_short", f"A text has {thresholds.min_characters} characters or more.",
            find_too_short, _BOTH, min_characters=thresholds.min_characters,
        ),
        _check(
            "too_long", f"No text has more than {thresholds.max_characters} characters.",
            find_too_long, _BOTH, max_characters=thresholds.max_characters,
        ),
        _check(
            "class_balance", f"Every class has {100 * least:.3g}% of the examples or more.",
            find_rare_class, ("label", "text"), classes=list(classes), min_share=least,
        ),
    ]  # fmt: skip


def _repetition_checks() -> list[RowCheck]:
    return [
        _check(
            "overlap",
            "No text stands in two splits, up to case and white space.",
            find_elsewhere, ("elsewhere", *_BOTH), _BOTH,
        ),
        _check(
            "duplicate", "No text stands in a split twice, up to case and white space.",
            find_repeated, ("normalised", *_BOTH), _BOTH, keys=["normalised", "label"], what="text",
        ),
        _check(
            "conflicting_class", "One text has one class.",
            find_conflicting_class, ("normalised", *_BOTH), _BOTH, key="normalised",
        ),
    ]  # fmt: skip


def find_malformed(rows: pd.DataFrame) -> pd.Series[str]:
    """Name records that could not be read as the file's format has them."""
    return rows.loc[rows["flaw"] != "", "flaw"].astype(str)


def find_empty(rows: pd.DataFrame) -> pd.Series[str]:
    """Name texts of nothing but white space and invisible characters."""
    return _judge(rows, judge_content)


def find_markup(rows: pd.DataFrame) -> pd.Series[str]:
    """Name texts with HTML tags or character references left in them."""
    return _judge(rows, judge_markup)


def find_undecodable(rows: pd.DataFrame) -> pd.Series[str]:
    """Name texts whose bytes are no UTF-8, or that were decoded wrongly before (control characters, mojibake)."""
    bytes_are_good = rows["decodable"].astype(bool)
    reasons = pd.Series("bytes that are no UTF-8", index=rows.index, dtype=object).where(~bytes_are_good, None)
    reasons = reasons.where(~bytes_are_good, _judge(rows, _judge_decoding).reindex(rows.index))
    return reasons.dropna().astype(str)


def _judge_decoding(text: str) -> str | None:
    # Texts may go over several lines, which e-mails and Windows end with a carriage return and a line feed.
    return judge_decoding(text.replace("\r\n", "\n"))


def find_too_short(rows: pd.DataFrame, min_characters: int) -> pd.Series[str]:
    """Name texts with fewer characters that are no white space; empty ones are another check's."""

    def judge(text: str) -> str | None:
        count = len("".join(text.split()))
        short = count < min_characters and not judge_content(text)
        return f"has {count} characters, the least is {min_characters}" if short else None

    return _judge(rows, judge)


def find_too_long(rows: pd.DataFrame, max_characters: int) -> pd.Series[str]:
    """Name texts with more characters."""

    def judge(text: str) -> str | None:
        long = len(text) > max_characters
        return f"has {len(text)} characters, the limit is {max_characters}" if long else None

    return _judge(rows, judge)


def _judge(rows: pd.DataFrame, judge: Callable[[str], str | None]) -> pd.Series[str]:
    reasons = pd.Series([judge(text) for text in rows["text"]], index=rows.index, dtype=object)
    return reasons.dropna().astype(str)
