"""German inflection: articles, adjective endings, noun and verb forms."""

from __future__ import annotations

from typing import Final

# Endings by gender (m, f, n, p for plural) and case (nominative, accusative, dative). Duden, Die Grammatik:
# Artikelwörter.
_DER: Final = {
    "m": ("der", "den", "dem"),
    "f": ("die", "die", "der"),
    "n": ("das", "das", "dem"),
    "p": ("die", "die", "den"),
}
_DIES_ENDINGS: Final = {"m": ("er", "en", "em"), "f": ("e", "e", "er"), "n": ("es", "es", "em"), "p": ("e", "e", "en")}
_EIN_ENDINGS: Final = {"m": ("", "en", "em"), "f": ("e", "e", "er"), "n": ("", "", "em"), "p": ("e", "e", "en")}

# Adjectives: after der-words, after ein-words, without an article.
_WEAK: Final = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en"), "p": ("en", "en", "en")}
_MIXED: Final = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en"), "p": ("en", "en", "en")}
_STRONG: Final = _DIES_ENDINGS

_CONTRACTIONS: Final = {
    ("an", "dem"): "am", ("in", "dem"): "im", ("zu", "dem"): "zum", ("zu", "der"): "zur", ("von", "dem"): "vom",
    ("bei", "dem"): "beim", ("an", "das"): "ans", ("in", "das"): "ins",
}  # fmt: skip

_REFLEXIVE: Final = {"1s": "mich", "1p": "uns", "2": "sich", "3s": "sich", "3p": "sich"}
_IRREGULAR_FINITE: Final = {
    "haben": ("habe", "hat"),
    "sein": ("bin", "ist"),
    "werden": ("werde", "wird"),
    "können": ("kann", "kann"),
    "müssen": ("muss", "muss"),
    "sollen": ("sollte", "sollte"),
    "dürfen": ("darf", "darf"),
    "wollen": ("will", "will"),
    "mögen": ("möchte", "möchte"),
}
_IRREGULAR_PLURAL: Final = {"sein": "sind", "sollen": "sollten", "mögen": "möchten"}


def definite_article(gender: str, case: int) -> str:
    """Give the definite article, for example `dem`."""
    return _DER[gender][case]


def determiner(stem: str, gender: str, case: int) -> str:
    """Inflect a determiner by its stem: `der`, `dies`, `jed`, `welch`, `ein`, `kein`, `mein`, ..."""
    if stem == "der":
        return definite_article(gender, case)
    endings = _DIES_ENDINGS if stem in {"dies", "jed", "welch"} else _EIN_ENDINGS
    # "euer" would drop an e; the grammar addresses people formally and has none.
    return stem + endings[gender][case]


def adjective(stem: str, after: str, gender: str, case: int) -> str:
    """Inflect an adjective after a determiner stem ("" for none)."""
    if not after:
        return stem + _STRONG[gender][case]
    return stem + (_WEAK if after in {"der", "dies", "jed", "welch"} else _MIXED)[gender][case]


def noun(singular: str, plural: str, gender: str, case: int) -> str:
    """Inflect a noun; gender `w` is a weak masculine (`Tourist`, `Touristen`), `p` asks for the plural."""
    if gender == "w":
        return singular if case == 0 else plural
    if gender == "p":
        return plural if case != 2 or plural[-1] in "ns" else plural + "n"
    return singular


def contract(preposition: str, phrase: str) -> str:
    """Put a preposition before a phrase: `in` and `dem Hotel` make `im Hotel`."""
    first, _, rest = phrase.partition(" ")
    contracted = _CONTRACTIONS.get((preposition, first))
    return f"{contracted} {rest}" if contracted else f"{preposition} {phrase}"


def reflexive(person: str) -> str:
    """Give the accusative reflexive pronoun."""
    return _REFLEXIVE[person]


def finite(infinitive: str, third: str, person: str) -> str:
    """Conjugate in the present; persons are 1s, 1p, 2 (formal), 3s, 3p.

    Args:
        infinitive: Without a separable prefix.
        third: Third person singular, which tells what the stem vowel does; unused for auxiliaries.
        person: Who.
    """
    if infinitive in _IRREGULAR_FINITE and person in {"1s", "3s"}:
        return _IRREGULAR_FINITE[infinitive][person == "3s"]
    if person == "3s":
        return third
    if person == "1s":
        if infinitive.endswith("eln"):
            return infinitive.removesuffix("eln") + "le"
        return (infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]) + "e"
    return _IRREGULAR_PLURAL.get(infinitive, infinitive)
