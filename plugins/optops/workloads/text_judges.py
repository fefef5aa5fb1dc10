"""What is wrong with one text by itself: empty, too long, markup left in, decoded wrongly; for every workload's checks.

Each function returns the reason, or None if nothing is wrong.
"""

from __future__ import annotations

import html.entities
import re
from typing import Final

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


def judge_content(text: str) -> str | None:
    """Look for anything but white space and invisible characters."""
    return "is empty" if _BLANK.fullmatch(text) else None


def judge_length(text: str, max_characters: int, max_words: int) -> str | None:
    """Compare the length with a limit in characters and one in words (between white space)."""
    if len(text) > max_characters:
        return f"has {len(text)} characters, the limit is {max_characters}"
    # Words can not outnumber every second character.
    if len(text) >= 2 * max_words and (words := len(text.split())) > max_words:
        return f"has {words} words, the limit is {max_words}"
    return None


def judge_markup(text: str) -> str | None:
    """Look for HTML tags and character references."""
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


def judge_decoding(text: str) -> str | None:
    """Look for replacement characters, control characters and mojibake."""
    if "\ufffd" in text:
        return "holds the replacement character U+FFFD"
    if text.isascii() and text.isprintable():
        return None
    if control := _CONTROL.search(text):
        return f"holds the control character U+{ord(control.group()):04X}"
    if mojibake := _MOJIBAKE.search(text):
        return f"holds {mojibake.group()[:12]!r}, UTF-8 that was read in another encoding"
    return None
