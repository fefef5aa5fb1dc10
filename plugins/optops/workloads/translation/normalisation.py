"""How a translator's text is written: the rules that its sentencepiece model carries.

Sentencepiece's own rules (`nmt_nfkc`) rewrite what a translation must be able to say: full-width punctuation becomes
ASCII, `½` becomes `1⁄2`, Thai sara am two characters.
"""

import sys
import unicodedata
from collections.abc import Iterator
from itertools import permutations

SPACE = " "
NOTHING = ""

SEPARATORS = "\N{LOWER ONE EIGHTH BLOCK}\N{REPLACEMENT CHARACTER}"
"""Sentencepiece's own mark of a space, and what stands for bytes that are no text: they separate words."""

BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def normalisation_rules() -> dict[str, str]:
    """Returns what is rewritten: letters are composed, white space is a space, control characters are left out."""
    rules: dict[str, str] = {}
    for character in _characters():
        if character.isspace() or character in SEPARATORS:
            rules[character] = SPACE
        elif unicodedata.category(character) == "Cc" or character == BYTE_ORDER_MARK:
            rules[character] = NOTHING
        else:
            rules |= dict.fromkeys(_spellings(character), composed(character))
    return rules


def composed(text: str) -> str:
    """Returns text with its accents, and the parts of Korean syllables, in one character each: NFC."""
    return unicodedata.normalize("NFC", text)


def rules_file(rules: dict[str, str]) -> str:
    """Returns rules as sentencepiece's trainer reads them: hexadecimal code points, a tab between the two sides."""
    return "".join(f"{_code_points(old)}\t{_code_points(new)}\n" for old, new in rules.items())


def _characters() -> Iterator[str]:
    # Zero ends a key in sentencepiece, surrogates are no characters, and a space may not be rewritten as itself.
    codes = (code for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
    return (character for character in map(chr, codes) if character != SPACE)


def _spellings(character: str) -> set[str]:
    """Returns the other ways to write a character: wholly or partly decomposed, with its marks in any order."""
    wanted, decomposed = composed(character), unicodedata.normalize("NFD", character)
    if decomposed == character:
        return set()
    orders = map("".join, permutations(decomposed))
    spellings = {composed(order[:length]) + order[length:] for order in orders for length in range(len(order) + 1)}
    return {spelling for spelling in {*spellings, character} - {wanted} if composed(spelling) == wanted}


def _code_points(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)
