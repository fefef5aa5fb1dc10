"""Which label checks labelled texts undergo, and what they look for.

Each `find_` function takes all examples of a split and returns the reasons of the defective ones, see
`optops.workloads.label_checks.FindDefects`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from optops.workloads.label_checks import LabelCheck, RowCheck
from optops.workloads.text_classification.settings import CHECKS, Thresholds
from optops.workloads.text_judges import judge_content, judge_decoding, judge_markup
from optops.workloads.text_lines import normalise

_BOTH: Final = ("text", "label")
_NAMED_CLASSES: Final = 10
_RARE: Final = 0.5
"""A class that has this share of what it had if all had the same is not rare, however many classes there are."""

# Training must not see what validation or test measure, nor choices what the test measures: a row that also stands in
# a later split is flagged.
_SPLIT_ORDER: Final = ("train", "validation", "test")


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
    return prepared.assign(elsewhere=seen_elsewhere(prepared)), checks


def _form_checks() -> list[RowCheck]:
    return [
        _check(
            "malformed", "Every record has the fields of the file's format.",
            "find_malformed", columns=("flaw", *_BOTH), shown=_BOTH,
        ),
        _check("empty_text", "Every example holds text.", "find_empty"),
        _check(
            "undecodable",
            "Text is UTF-8, without replacement and control characters and without mojibake such as 'Ã¼'.",
            "find_undecodable", columns=(*_BOTH, "decodable"), shown=_BOTH,
        ),
        _check("markup", "No HTML tag or character reference is left over.", "find_markup"),
    ]  # fmt: skip


def _content_checks(classes: Sequence[str], thresholds: Thresholds) -> list[RowCheck]:
    named = ", ".join(classes[:_NAMED_CLASSES]) + (", ..." if len(classes) > _NAMED_CLASSES else "")
    # Of many classes none can have much.
    least = min(thresholds.min_class_share, _RARE / len(classes))
    return [
        _check(
            "unknown_class", f"Every label is one of the classes: {named}.",
            "find_unknown_class", parameters={"classes": list(classes)}, shown=("label", "text"),
        ),
        _check(
            "too_short", f"A text has {thresholds.min_characters} characters or more.",
            "find_too_short", parameters={"min_characters": thresholds.min_characters},
        ),
        _check(
            "too_long", f"No text has more than {thresholds.max_characters} characters.",
            "find_too_long", parameters={"max_characters": thresholds.max_characters},
        ),
        _check(
            "class_balance",
            f"Every class has {100 * least:.3g}% of the examples or more.",
            "find_rare_class", parameters={"classes": list(classes), "min_share": least},
            shown=("label", "text"),
        ),
    ]  # fmt: skip


def _repetition_checks() -> list[RowCheck]:
    return [
        _check(
            "overlap",
            "No training text stands in validation or test, no validation text in test, up to case and white space.",
            "find_overlap", columns=("elsewhere", *_BOTH), shown=_BOTH,
        ),
        _check(
            "duplicate", "No text stands in a split twice, up to case and white space.",
            "find_duplicates", columns=("normalised", *_BOTH), shown=_BOTH,
        ),
        _check(
            "conflicting_class", "One text has one class.",
            "find_conflicts", columns=("normalised", *_BOTH), shown=_BOTH,
        ),
    ]  # fmt: skip


def _check(
    name: str,
    description: str,
    function: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    columns: tuple[str, ...] = _BOTH,
    shown: tuple[str, ...] = (),
) -> RowCheck:
    label = LabelCheck.standard(name, CHECKS, description)
    return RowCheck(label, f"{__name__}:{function}", columns, parameters or {}, shown)


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


def find_unknown_class(rows: pd.DataFrame, classes: Sequence[str]) -> pd.Series[str]:
    """Name examples whose label is no class."""
    unknown = rows.loc[~rows["label"].isin(classes), "label"]
    named = ", ".join(classes[:_NAMED_CLASSES])
    return pd.Series([f"label {label!r:.60} is none of {named}" for label in unknown], index=unknown.index, dtype=str)


def find_rare_class(rows: pd.DataFrame, classes: Sequence[str], min_share: float) -> pd.Series[str]:
    """Name the first example of each rare class; the first of the split stands for classes that have none."""
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


def find_duplicates(rows: pd.DataFrame) -> pd.Series[str]:
    """Name every repetition of a text with the same label, all but its first occurrence; empty ones are another's."""
    told = rows[rows["normalised"] != ""]
    first = told.groupby(["normalised", "label"], sort=False)["id"].transform("first")
    repeated = told.duplicated(["normalised", "label"])
    return ("the same text as " + first[repeated]).astype(str)


def find_conflicts(rows: pd.DataFrame) -> pd.Series[str]:
    """Name the examples that share a text and do not share a label."""
    told = rows[(rows["normalised"] != "") & rows["normalised"].duplicated(keep=False)]
    labels = told.groupby("normalised", sort=False)["label"].transform("nunique")
    conflicting = told[labels > 1]
    first: dict[str, dict[str, str]] = {}
    for name, text, label in zip(conflicting["id"], conflicting["normalised"], conflicting["label"], strict=True):
        first.setdefault(text, {}).setdefault(label, name)
    reasons = []
    for text, label in zip(conflicting["normalised"], conflicting["label"], strict=True):
        other, name = next((found, name) for found, name in first[text].items() if found != label)
        reasons.append(f"labelled {label!r}, and {other!r} in {name}")
    return pd.Series(reasons, index=conflicting.index, dtype=str)


def find_overlap(rows: pd.DataFrame) -> pd.Series[str]:
    """Name the examples that `seen_elsewhere` has found in a later split."""
    return rows.loc[rows["elsewhere"] != "", "elsewhere"].astype(str)


def seen_elsewhere(frame: pd.DataFrame) -> pd.Series[str]:
    """Say of each row where a later split (train before validation before test) holds its text, "" for nowhere.

    Args:
        frame: Columns `id`, `split`, `normalised`.
    """
    where = pd.Series("", index=frame.index, dtype=object)
    told = frame[frame["normalised"] != ""]
    for number, split in enumerate(_SPLIT_ORDER[:-1]):
        own = told[told["split"] == split]
        # The first later split that has it is named, and of several places there the first.
        for later in reversed(_SPLIT_ORDER[number + 1 :]):
            held = told[told["split"] == later].drop_duplicates("normalised").set_index("normalised")["id"]
            found = own["normalised"].map(held).dropna().astype(str)
            where[found.index] = f"the same text stands in {later}, " + found
    return where.astype(str)


def _judge(rows: pd.DataFrame, judge: Callable[[str], str | None]) -> pd.Series[str]:
    reasons = pd.Series([judge(text) for text in rows["text"]], index=rows.index, dtype=object)
    return reasons.dropna().astype(str)
