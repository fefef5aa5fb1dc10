"""Checks that judge a pair by itself: what is empty, broken, left over, too long or in the wrong script.

Each function takes all pairs of a split and returns the reasons of the defective ones, see
`optops.workloads.label_checks.FindDefects`.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pandas as pd

from optops.workloads.translation.corpus import normalise
from optops.workloads.translation.scripts import SCRIPTS, count_letters, count_words

_SIDES: Final = ("source", "target")

_BLANK: Final = re.compile(r"[\s\u00ad\u180e\u200b-\u200f\u2060\ufeff]*")

# Element names of HTML that turn up in crawled text; an open list of names would take "<you>" for a tag.
_TAG: Final = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|body|br|center|cite|code|dd|div|dl|dt|em|font|form|h[1-6]|head|hr|html|i|iframe|img|"
    r"input|ins|label|li|link|meta|nobr|ol|option|p|pre|q|s|script|select|small|span|strike|strong|style|sub|sup|table|"
    r"tbody|td|th|title|tr|tt|u|ul|wbr)(?:\s[^<>]*)?/?>|<!--|<!\[CDATA\[|<!DOCTYPE|<[A-Za-z][\w:-]*\s+[\w:-]+\s*=[^<>]*>",
    re.IGNORECASE,
)
_NUMERIC_ENTITY: Final = re.compile(r"&\s?#\s?(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6})\s?;")
_NAMED_ENTITY: Final = re.compile(r"&\s?([A-Za-z][A-Za-z0-9]{1,31})\s?;")

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What the bytes 0x80 to 0xBF, which go on a UTF-8 sequence, look like when read as Windows-1252 or Latin-1.
_CONTINUATION: Final = r"[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_UPPER: Final = r"[A-ZÀ-ÖØ-Þ]"
_MOJIBAKE: Final = re.compile(
    # "Ã¼" for "ü". After a capital and before no letter it may be text: «AMANHÃ».
    rf"(?<!{_UPPER})[ÂÃ]{_CONTINUATION}|[ÂÃ]{_CONTINUATION}(?=[^\W\d_])"
    # "â€™" for an apostrophe; a byte order mark.
    rf"|â{_CONTINUATION}{{2}}|ï»¿"
    # Cyrillic, Greek, Chinese: single sequences stand in good text («CAFÉ»), several in a row do not.
    rf"|(?:[Â-ß]{_CONTINUATION}){{3,}}|(?:[à-ï]{_CONTINUATION}{{2}}){{2,}}|ð[Ÿ\x9f]{_CONTINUATION}{{2}}"
)

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
    return _judge_sides(rows, lambda text: "is empty" if _BLANK.fullmatch(text) else None)


def find_too_long(rows: pd.DataFrame, max_characters: int, max_words: int) -> pd.Series[str]:
    """Name pairs with a side above a length in characters or in words (between white space)."""

    def judge(text: str) -> str | None:
        if len(text) > max_characters:
            return f"has {len(text)} characters, the limit is {max_characters}"
        # Words can not outnumber every second character.
        if len(text) >= 2 * max_words and (words := len(text.split())) > max_words:
            return f"has {words} words, the limit is {max_words}"
        return None

    return _judge_sides(rows, judge)


def find_markup(rows: pd.DataFrame) -> pd.Series[str]:
    """Name pairs with HTML tags or character references left in them."""

    def judge(text: str) -> str | None:
        if "<" in text and (tag := _TAG.search(text)):
            return f"holds the tag {tag.group()[:40]}"
        if "&" not in text:
            return None
        if number := _NUMERIC_ENTITY.search(text):
            return f"holds the character reference {number.group()}"
        for name in _NAMED_ENTITY.finditer(text):
            if f"{name.group(1)};" in html.entities.html5:
                return f"holds the character reference {name.group()}"
        return None

    return _judge_sides(rows, judge)


def find_undecodable(rows: pd.DataFrame) -> pd.Series[str]:
    """Name pairs whose bytes are no UTF-8, or that were decoded wrongly before (control characters, mojibake)."""

    def judge(text: str) -> str | None:
        if "\ufffd" in text:
            return "holds the replacement character U+FFFD"
        if text.isascii() and text.isprintable():
            return None
        if control := _CONTROL.search(text):
            return f"holds the control character U+{ord(control.group()):04X}"
        if mojibake := _MOJIBAKE.search(text):
            return f"holds {mojibake.group()[:12]!r}, UTF-8 that was read in another encoding"
        return None

    bad_bytes = pd.Series("bytes that are no UTF-8", index=rows.index[~rows["decodable"].astype(bool)], dtype=str)
    bad_text = _judge_sides(rows, judge)
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
    """Name pairs of at least `min_words` words whose target repeats the source."""
    repeated = [
        len(source) == len(target) and len(source.split()) >= min_words and normalise(source) == normalise(target)
        for source, target in zip(rows["source"], rows["target"], strict=True)
    ]
    return pd.Series("the target repeats the source", index=rows.index[repeated], dtype=str)


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
