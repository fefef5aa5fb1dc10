"""Checks that judge a pair by itself: what is empty, broken, left over, too long or in the wrong script.

Each function takes all pairs of a split and returns the reasons of the defective ones, see
`optops.workloads.label_checks.FindDefects`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pandas as pd

from optops.workloads.text_judges import judge_content, judge_decoding, judge_length, judge_markup
from optops.workloads.text_lines import normalise
from optops.workloads.translation.scripts import SCRIPTS, count_letters, count_unspaced, count_words

_SIDES: Final = ("source", "target")

# Typography sets a no-break space before these, after « and between digits; elsewhere it is a leftover.
_NO_BREAK: Final = r"[\u00a0\u202f\u2007]"
_STRAY_NO_BREAK: Final = re.compile(rf"(?<![«‹\d]){_NO_BREAK}(?![:;!?»›%‰°€$£–—])|(?<=\d){_NO_BREAK}{{2,}}")
_SPACING: Final = (
    (re.compile(r"\A\s|\s\Z"), "white space at the start or end"),
    (re.compile(r"\s\s"), "doubled space"),
    (_STRAY_NO_BREAK, "no-break space"),
    (re.compile(r"[\t\v\f\u2028\u2029]"), "tab or line break inside"),
    (re.compile(r"[\u200b\u2060\ufeff]"), "invisible character"),
)


def find_empty_sides(rows: pd.DataFrame) -> pd.Series[str]:
    """Name pairs with a side of nothing but white space and invisible characters."""
    return _judge_sides(rows, judge_content)


def find_too_long(rows: pd.DataFrame, max_characters: int, max_words: int) -> pd.Series[str]:
    """Name pairs with a side above a length in characters or in words (between white space)."""
    return _judge_sides(rows, lambda text: judge_length(text, max_characters, max_words))


def find_markup(rows: pd.DataFrame) -> pd.Series[str]:
    """Name pairs with HTML tags or character references left in them."""
    return _judge_sides(rows, judge_markup)


def find_undecodable(rows: pd.DataFrame) -> pd.Series[str]:
    """Name pairs whose bytes are no UTF-8, or that were decoded wrongly before (control characters, mojibake)."""
    bad_bytes = pd.Series("bytes that are no UTF-8", index=rows.index[~rows["decodable"].astype(bool)], dtype=str)
    bad_text = _judge_sides(rows, judge_decoding)
    return pd.concat([bad_bytes, bad_text[~bad_text.index.isin(bad_bytes.index)]]).loc[
        rows.index.intersection(bad_bytes.index.union(bad_text.index))
    ]


def find_wrong_script(
    rows: pd.DataFrame, source_scripts: Sequence[str], target_scripts: Sequence[str]
) -> pd.Series[str]:
    """Name pairs with a side that is mostly in a script its language is not written in.

    Latin words stand in every language (names, acronyms), so there it takes three of them, outnumbering the words of
    the language's own script; letters of another script count as foreign when they are the majority and at least two.
    """
    reasons: dict[str, pd.Series[str]] = {}
    for side, expected in zip(_SIDES, (source_scripts, target_scripts), strict=True):
        if not expected:
            continue
        texts = rows[side].tolist()
        own = np.array([name in expected for name in SCRIPTS])
        latin = np.array([name == "Latin" for name in SCRIPTS])
        letters, words = count_letters(texts), count_words(texts)
        foreign_letters = letters[:, ~own & ~latin].sum(axis=1)
        foreign = (foreign_letters >= 2) & (2 * foreign_letters > letters.sum(axis=1))
        if not (own & latin).any():
            latin_words = words[:, latin].sum(axis=1)
            foreign |= (latin_words >= 3) & (latin_words > words[:, own].sum(axis=1))
        found = np.where(own, 0, letters).argmax(axis=1)[foreign]
        wanted = " or ".join(expected)
        reasons[side] = pd.Series(
            [f"is mostly {SCRIPTS[script]}, not {wanted}" for script in found], index=rows.index[foreign], dtype=str
        )
    return _join_sides(rows, reasons)


def find_bad_spacing(rows: pd.DataFrame) -> pd.Series[str]:
    """Name pairs with doubled, leading, trailing, no-break or invisible spaces."""

    def judge(text: str) -> str | None:
        if text.isascii() and " ".join(text.split()) == text:
            return None
        return next((reason for pattern, reason in _SPACING if pattern.search(text)), None)

    return _judge_sides(rows, judge)


def find_identical_sides(rows: pd.DataFrame, min_words: int) -> pd.Series[str]:
    """Name pairs of at least `min_words` words whose target repeats the source.

    Two characters count as a word in scripts that set no spaces.
    """
    same = [
        len(source) == len(target) and normalise(source) == normalise(target)
        for source, target in zip(rows["source"], rows["target"], strict=True)
    ]
    repeated = rows.index[same]
    texts = rows["source"][same].tolist()
    words = np.array([len(text.split()) for text in texts], dtype=np.int64)
    long = np.maximum(words, count_unspaced(texts) // 2) >= min_words
    return pd.Series("the target repeats the source", index=repeated[long], dtype=str)


def _judge_sides(rows: pd.DataFrame, judge: Callable[[str], str | None]) -> pd.Series[str]:
    """Collect what is wrong with each side."""
    reasons: dict[str, pd.Series[str]] = {}
    for side in _SIDES:
        texts = zip(rows.index, rows[side].tolist(), strict=True)
        found = {index: reason for index, text in texts if (reason := judge(text)) is not None}
        reasons[side] = pd.Series(list(found.values()), index=pd.Index(list(found), dtype=rows.index.dtype), dtype=str)
    return _join_sides(rows, reasons)


def _join_sides(rows: pd.DataFrame, reasons: dict[str, pd.Series[str]]) -> pd.Series[str]:
    """Put the reasons of both sides together, in the order of the rows."""
    named = [f"{side} " + found for side, found in reasons.items()]
    if not named:
        return pd.Series(dtype=str)
    joined = pd.concat(named).groupby(level=0).agg("; ".join)
    return joined.loc[rows.index.intersection(joined.index)]
