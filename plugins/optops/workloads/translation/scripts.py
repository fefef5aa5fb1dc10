"""Which writing systems a text uses, and which of them a language is written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

# First and last code point of the blocks that hold a script's letters (Unicode Standard, Blocks.txt and Scripts.txt).
_BLOCKS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "Latin": (
        (0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F),
        (0x1E00, 0x1EFF), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A),
    ),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F)),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x590, 0x5FF),),
    "Arabic": (
        (0x620, 0x65F), (0x66E, 0x6D3), (0x6FA, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF),
        (0xFE70, 0xFEFC),
    ),
    "Thaana": ((0x780, 0x7B1),),
    "Devanagari": ((0x900, 0x963), (0x970, 0x97F)),
    "Bengali": ((0x980, 0x9E3),),
    "Gurmukhi": ((0xA01, 0xA5E),),
    "Gujarati": ((0xA81, 0xAE3),),
    "Oriya": ((0xB01, 0xB63), (0xB71, 0xB71)),
    "Tamil": ((0xB82, 0xBD7),),
    "Telugu": ((0xC00, 0xC63),),
    "Kannada": ((0xC80, 0xCE3),),
    "Malayalam": ((0xD00, 0xD63),),
    "Sinhala": ((0xD81, 0xDDF),),
    "Thai": ((0xE01, 0xE3A), (0xE40, 0xE4E)),
    "Lao": ((0xE81, 0xECD),),
    "Tibetan": ((0xF40, 0xFBC),),
    "Myanmar": ((0x1000, 0x103F),),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF)),
    "Hangul": ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3)),
    "Ethiopic": ((0x1200, 0x135F),),
    "Khmer": ((0x1780, 0x17D3),),
    "Ol Chiki": ((0x1C5A, 0x1C7D),),
    "Tifinagh": ((0x2D30, 0x2D6F),),
    "Hiragana": ((0x3041, 0x309F),),
    "Katakana": ((0x30A1, 0x30FA), (0x30FC, 0x30FF), (0xFF66, 0xFF9D)),
    "Bopomofo": ((0x3105, 0x312F),),
    "Han": (
        (0x2E80, 0x2FD5), (0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF),
    ),
}  # fmt: skip
SCRIPTS: Final = tuple(_BLOCKS)
_OTHER: Final = len(SCRIPTS)

# Written without spaces between words: here a character, elsewhere a run of letters, is what compares to a word.
_UNSPACED: Final = {"Thai", "Lao", "Tibetan", "Myanmar", "Khmer", "Hiragana", "Katakana", "Bopomofo", "Han", "Hangul"}

# ISO 639 codes of the languages that are written in these scripts; where words are not set apart also the longer codes,
# for there BLEU depends on what a language is known as.
_LANGUAGES: Final[dict[tuple[str, ...], str]] = {
    ("Latin",): (
        "af az bs ca cs cy da de en eo es et eu fi fil fr ga gl ha hr hu id is it la lt lv ms mt nb nl nn no pl pt ro "
        "sk sl so sq sv sw tl tr uz vi yo zu"
    ),
    ("Cyrillic",): "be bg mk ru uk",
    ("Cyrillic", "Latin"): "kk ky mn sr tg",
    ("Arabic",): "ar fa ps ug ur",
    ("Hebrew",): "he yi",
    ("Devanagari",): "hi mr ne sa",
    ("Ethiopic",): "am ti",
    ("Bengali",): "as bn",
    ("Han", "Bopomofo"): "zh zho chi cmn yue wuu gan hsn lzh",
    ("Han", "Hiragana", "Katakana"): "ja jpn",
    ("Hangul", "Han"): "ko kor",
    ("Greek",): "el", ("Armenian",): "hy", ("Georgian",): "ka", ("Gurmukhi",): "pa", ("Gujarati",): "gu",
    ("Oriya",): "or", ("Thaana",): "dv", ("Ol Chiki",): "sat", ("Tifinagh",): "zgh",
    ("Tamil",): "ta", ("Telugu",): "te", ("Kannada",): "kn", ("Malayalam",): "ml", ("Sinhala",): "si",
    ("Thai",): "th tha", ("Lao",): "lo lao", ("Tibetan",): "bo bod tib dz dzo", ("Myanmar",): "my mya bur",
    ("Khmer",): "km khm",
}  # fmt: skip
_LANGUAGE_SCRIPTS: Final = {code: scripts for scripts, codes in _LANGUAGES.items() for code in codes.split()}

# ISO 15924 codes, as a language's tag may have them (`uz-Cyrl`).
_SCRIPT_CODES: Final[dict[str, tuple[str, ...]]] = {
    "latn": ("Latin",), "grek": ("Greek",), "cyrl": ("Cyrillic",), "armn": ("Armenian",), "hebr": ("Hebrew",),
    "arab": ("Arabic",), "deva": ("Devanagari",), "beng": ("Bengali",), "guru": ("Gurmukhi",), "gujr": ("Gujarati",),
    "orya": ("Oriya",), "thaa": ("Thaana",), "olck": ("Ol Chiki",), "tfng": ("Tifinagh",),
    "taml": ("Tamil",), "telu": ("Telugu",), "knda": ("Kannada",), "mlym": ("Malayalam",), "sinh": ("Sinhala",),
    "thai": ("Thai",), "laoo": ("Lao",), "tibt": ("Tibetan",), "mymr": ("Myanmar",), "geor": ("Georgian",),
    "hang": ("Hangul",), "ethi": ("Ethiopic",), "khmr": ("Khmer",), "hira": ("Hiragana",), "kana": ("Katakana",),
    "bopo": ("Bopomofo",), "hani": ("Han",), "hans": ("Han", "Bopomofo"), "hant": ("Han", "Bopomofo"),
    "jpan": ("Han", "Hiragana", "Katakana"), "kore": ("Hangul", "Han"),
}  # fmt: skip
_SCRIPT_CODE_LENGTH: Final = 4


def _block_table() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Lay the blocks out as sorted starts and the script that begins at each."""
    edges = [(0, _OTHER)]
    for number, blocks in enumerate(_BLOCKS.values()):
        for first, last in blocks:
            edges += [(first, number), (last + 1, _OTHER)]
    # Where a block begins right after another, the beginning must win: it is sorted last and searched from the right.
    edges.sort(key=lambda edge: (edge[0], edge[1] != _OTHER))
    return np.array([edge[0] for edge in edges], np.uint32), np.array([edge[1] for edge in edges], np.uint8)


_STARTS, _SCRIPT_AT = _block_table()


def language_scripts(language: str) -> tuple[str, ...]:
    """Name the scripts of a language by its tag (BCP 47: `de`, `zh-CN`, `uz-Cyrl`); empty when they are not known."""
    code, *subtags = language.replace("_", "-").lower().split("-")
    for subtag in subtags:
        if len(subtag) == _SCRIPT_CODE_LENGTH and subtag.isalpha():
            return _SCRIPT_CODES.get(subtag, ())
    return _LANGUAGE_SCRIPTS.get(code, ())


def count_letters(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count the letters of each script, int64, shape [texts, len(SCRIPTS)]."""
    scripts, rows = _letters(texts)
    return _count(scripts, rows, len(texts))


def count_unspaced(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count the letters of scripts that set no spaces between words, int64, shape [texts]."""
    unspaced = np.array([name in _UNSPACED for name in SCRIPTS])
    return np.asarray(count_letters(texts)[:, unspaced].sum(axis=1))


def count_words(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count words of each script, int64, shape [texts, len(SCRIPTS)].

    A run of letters is a word; in scripts that set no spaces, a character is.
    """
    scripts, rows = _letters(texts)
    unspaced = np.array([name in _UNSPACED for name in (*SCRIPTS, "")])
    starts = np.ones(len(scripts), dtype=bool)
    starts[1:] = (scripts[1:] != scripts[:-1]) | (rows[1:] != rows[:-1])
    counted = starts | unspaced[scripts]
    return _count(scripts[counted], rows[counted], len(texts))


def dominant_scripts(texts: Sequence[str]) -> tuple[str, ...]:
    """Name the scripts that hold at least a fifth of all words: what these texts are written in."""
    words = count_words(texts).sum(axis=0)
    return tuple(name for name, count in zip(SCRIPTS, words, strict=True) if count and count >= words.sum() / 5)


def _letters(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Look up every character of every text: its script and its text's number, both of shape [characters]."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    scripts = _SCRIPT_AT[np.searchsorted(_STARTS, points, side="right") - 1]
    return scripts, np.repeat(np.arange(len(texts)), [len(text) for text in texts])


def _count(scripts: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], texts: int) -> npt.NDArray[np.int64]:
    width = len(SCRIPTS) + 1
    flat = np.bincount(rows * width + scripts, minlength=texts * width)
    return flat.reshape(texts, width)[:, :_OTHER]
