"""The lexicon of travel phrases, read from the tables next to this module."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import yaml

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Noun:
    """A noun in both languages; gender is m, f, n or w (weak masculine)."""

    english: str
    english_plural: str
    german: str
    german_plural: str
    gender: str
    classes: frozenset[str]
    english_where: str
    german_where: str


@dataclass(frozen=True)
class Adjective:
    """An adjective in both languages; comparatives are empty where there is no degree."""

    english: str
    english_comparative: str
    english_superlative: str
    german: str
    german_stem: str
    german_comparative: str
    german_superlative: str
    classes: frozenset[str]


@dataclass(frozen=True)
class Verb:
    """A verb in both languages.

    Attributes:
        english: Base form with its particle or preposition.
        english_past: Simple past, likewise.
        infinitive: German infinitive without prefix.
        prefix: Separable prefix or "".
        is_reflexive: Takes a reflexive pronoun in the accusative.
        third: German third person singular, without prefix.
        participle: German past participle.
        auxiliary: `haben` or `sein`.
        preposition: German preposition before the object or "".
        case: Index of the object's case; -1 for no object.
        classes: Classes of nouns the object may have.
        goal: `to` or `walk` for verbs of motion, else "".
    """

    english: str
    english_past: str
    infinitive: str
    prefix: str
    is_reflexive: bool
    third: str
    participle: str
    auxiliary: str
    preposition: str
    case: int
    classes: frozenset[str]
    goal: str


@dataclass(frozen=True)
class Lexicon:
    """All words, and where to find nouns and adjectives by class."""

    nouns: tuple[Noun, ...]
    by_class: dict[str, tuple[Noun, ...]]
    adjectives: dict[Noun, tuple[Adjective, ...]]
    transitive: tuple[Verb, ...]
    intransitive: tuple[Verb, ...]
    motion: tuple[Verb, ...]
    names: dict[str, tuple[tuple[str, str], ...]]


@cache
def load_lexicon() -> Lexicon:
    """Read the tables, once a process."""
    nouns = _read_nouns()
    by_class: dict[str, list[Noun]] = defaultdict(list)
    for noun in nouns:
        for name in noun.classes:
            by_class[name].append(noun)
    adjectives = _read_adjectives()
    fitting = {noun: tuple(word for word in adjectives if word.classes & noun.classes) for noun in nouns}
    verbs = _read_verbs()
    return Lexicon(
        nouns=nouns,
        by_class={name: tuple(members) for name, members in by_class.items()},
        adjectives=fitting,
        transitive=tuple(verb for verb in verbs if verb.case >= 0),
        intransitive=tuple(verb for verb in verbs if verb.case < 0 and not verb.goal),
        motion=tuple(verb for verb in verbs if verb.goal),
        names=_read_names(),
    )


def _read_table(name: str) -> list[dict[str, str]]:
    with (_FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


def _read_nouns() -> tuple[Noun, ...]:
    heads = {row["english"].split("/")[0]: row for row in _read_table("heads.csv")}
    rows = _read_table("nouns.csv")
    for first in _read_table("compounds.csv"):
        for name in first["heads"].split():
            head = heads[name]
            rows.append(
                head
                | {
                    "english": "/".join(f"{first['english']} {form}" for form in head["english"].split("/")),
                    "german": first["german"] + head["german"].lower(),
                    "plural": first["german"] + head["plural"].lower(),
                }
            )
    return tuple(_noun(row) for row in rows)


def _noun(row: dict[str, str]) -> Noun:
    english, _, plural = row["english"].partition("/")
    english_where, _, german_where = row["where"].partition(" ")
    return Noun(
        english=english,
        english_plural=plural or english + "s",
        german=row["german"],
        german_plural=row["plural"],
        gender=row["gender"],
        classes=frozenset(row["classes"].split()),
        english_where=english_where,
        german_where=german_where,
    )


def _read_adjectives() -> tuple[Adjective, ...]:
    return tuple(
        Adjective(
            english=row["english"],
            english_comparative=row["comparative"],
            english_superlative=_superlative(row["comparative"]),
            german=row["german"],
            german_stem=row["stem"] or row["german"],
            german_comparative=row["german_comparative"],
            german_superlative=row["german_superlative"],
            classes=frozenset(row["classes"].split()),
        )
        for row in _read_table("adjectives.csv")
    )


def _superlative(comparative: str) -> str:
    if comparative.startswith("more "):
        return "most " + comparative.removeprefix("more ")
    return comparative.removesuffix("r") + "st" if comparative else ""


def _read_verbs() -> tuple[Verb, ...]:
    verbs: list[Verb] = []
    for row in _read_table("verbs.csv"):
        german = row["german"].removeprefix("sich ")
        prefix, _, infinitive = german.rpartition("|")
        goal = row["object"] if row["object"] in {"to", "walk"} else ""
        preposition, _, case = row["object"].rpartition(" ")
        verbs.append(
            Verb(
                english=row["english"],
                english_past=row["past"],
                infinitive=infinitive,
                prefix=prefix,
                is_reflexive=row["german"].startswith("sich "),
                third=row["er"],
                participle=row["participle"],
                auxiliary=row["aux"],
                preposition=preposition,
                case={"acc": 1, "dat": 2}.get(case, -1),
                classes=frozenset(row["classes"].split()),
                goal=goal,
            )
        )
    return tuple(verbs)


def _read_names() -> dict[str, tuple[tuple[str, str], ...]]:
    tables = yaml.safe_load((_FOLDER / "names.yaml").read_text(encoding="utf-8"))
    return {
        table: tuple((entry, entry) if isinstance(entry, str) else next(iter(entry.items())) for entry in entries)
        for table, entries in tables.items()
    }
