"""Clauses in both languages: English with its auxiliaries, German with verb second and verb final order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from optops.workloads.translation.phrase_grammar import german
from optops.workloads.translation.phrase_grammar.lexicon import Verb

Tense = Literal["present", "past", "future", "can", "must", "have to", "should", "may", "want to", "would like to"]

# English auxiliary, German modal.
MODALS: Final[dict[str, tuple[str, str]]] = {
    "can": ("can", "können"),
    "must": ("must", "müssen"),
    "have to": ("", "müssen"),
    "should": ("should", "sollen"),
    "may": ("may", "dürfen"),
    "want to": ("", "wollen"),
    "would like to": ("would", "mögen"),
}
_PLAIN_MODALS: Final = {"have to", "want to"}
_VOWEL_SOUND: Final = re.compile(r"(?!uni|use|one|euro)(?:[aeiou]|hour|honest)", re.IGNORECASE)

Pair = tuple[str, str]


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase; `german` by case, `gender` m, f, n, or p for plural."""

    english: str
    german: tuple[str, str, str]
    gender: str
    is_definite: bool


@dataclass(frozen=True)
class Subject:
    """Who acts: person 1s, 1p, 2 (formal), 3s, 3p, and the possessives that refer to them."""

    english: str
    german: str
    person: str
    english_possessive: str
    german_possessive: str


PRONOUNS: Final = (
    Subject("I", "ich", "1s", "my", "mein"),
    Subject("we", "wir", "1p", "our", "unser"),
    Subject("you", "Sie", "2", "your", "Ihr"),
    Subject("he", "er", "3s", "his", "sein"),
    Subject("she", "sie", "3s", "her", "ihr"),
    Subject("they", "sie", "3p", "their", "ihr"),
)


@dataclass(frozen=True)
class Clause:
    """What is said, before either language orders it; `place` is also where a motion goes."""

    subject: Subject
    verb: Verb
    tense: Tense
    is_negated: bool = False
    object: NounPhrase | None = None
    time: Pair | None = None
    place: Pair | None = None
    adverb: Pair | None = None

    def english(self, order: Literal["statement", "question"] = "statement", *, has_time: bool = True) -> str:
        """Say it in English; `has_time` off leaves the time to be said elsewhere."""
        auxiliary, main = self._english_verb(needs_auxiliary=order == "question" or self.is_negated)
        negation = "not" if self.is_negated else ""
        adverb = self.adverb[0] if self.adverb else ""
        start = [auxiliary, self.subject.english] if order == "question" else [self.subject.english, auxiliary]
        return _join(*start, negation, adverb, main, *self._english_rest(has_time=has_time))

    def english_infinitive(self) -> str:
        """Say it without subject and tense: `book a room in Rome`."""
        return _join(self.verb.english, *self._english_rest(has_time=True))

    def german(self, *front: str, has_time: bool = True) -> str:
        """Say it in German with the verb second after `front`, or after the subject when nothing is in front."""
        verb, tail = self._german_verb()
        start = [*front, verb, self.subject.german] if front else [self.subject.german, verb]
        return _join(*start, *self._german_middle(has_time=has_time), *tail)

    def german_question(self) -> str:
        """Say it with the verb first."""
        verb, tail = self._german_verb()
        return _join(verb, self.subject.german, *self._german_middle(has_time=True), *tail)

    def german_subordinate(self, conjunction: str, *, has_time: bool = True) -> str:
        """Say it with the verb last, after a conjunction or a relative pronoun."""
        verb, tail = self._german_verb()
        end = [tail[0] + verb] if self.tense == "present" and tail else [*tail, verb]
        return _join(conjunction, self.subject.german, *self._german_middle(has_time=has_time), *end)

    def german_infinitive(self, *, with_zu: bool) -> str:
        """Say it without subject and tense: `ein Zimmer in Rom zu buchen`."""
        verb = self.verb
        infinitive = _zu_infinitive(verb) if with_zu else verb.prefix + verb.infinitive
        return _join(*self._german_middle(has_time=True), infinitive)

    def _english_verb(self, *, needs_auxiliary: bool) -> Pair:
        """Give auxiliary ("" for none) and main verb."""
        base, past = self.verb.english, self.verb.english_past
        is_third = self.subject.person == "3s"
        if self.tense == "future":
            return "will", base
        if self.tense == "past":
            return ("did", base) if needs_auxiliary else ("", past)
        if self.tense in MODALS and self.tense not in _PLAIN_MODALS:
            return MODALS[self.tense][0], f"like to {base}" if self.tense == "would like to" else base
        if self.tense in _PLAIN_MODALS:
            base = f"{self.tense} {base}"
        if needs_auxiliary:
            return "does" if is_third else "do", base
        return "", third_person(base) if is_third else base

    def _english_rest(self, *, has_time: bool) -> list[str]:
        thing = self.object.english if self.object else ""
        place = self.place[0] if self.place else ""
        return [thing, place, self.time[0] if self.time and has_time else ""]

    def _german_verb(self) -> tuple[str, list[str]]:
        """Give the finite verb and what closes the clause."""
        verb, person = self.verb, self.subject.person
        infinitive = verb.prefix + verb.infinitive
        if self.tense == "present":
            return german.finite(verb.infinitive, verb.third, person), [verb.prefix] if verb.prefix else []
        if self.tense == "past":
            return german.finite(verb.auxiliary, "", person), [verb.participle]
        modal = "werden" if self.tense == "future" else MODALS[self.tense][1]
        return german.finite(modal, "", person), [infinitive]

    def _german_middle(self, *, has_time: bool) -> list[str]:
        """Order the middle field: what is known, time, what is new, place; `nicht` before what is new."""
        verb, thing = self.verb, self.object
        known = new = prepositional = ""
        if thing and verb.preposition:
            prepositional = german.contract(verb.preposition, thing.german[verb.case])
        elif thing and thing.is_definite:
            known = thing.german[verb.case]
        elif thing:
            new = thing.german[verb.case]
        return [
            german.reflexive(self.subject.person) if verb.is_reflexive else "",
            known,
            self.time[1] if self.time and has_time else "",
            self.adverb[1] if self.adverb else "",
            # An indefinite object is negated by its own determiner, kein.
            "nicht" if self.is_negated and not new else "",
            new,
            prepositional,
            self.place[1] if self.place else "",
        ]


def third_person(verb: str) -> str:
    """Inflect the first word: `look for` makes `looks for`."""
    first, _, rest = verb.partition(" ")
    if first == "have":
        first = "has"
    elif first.endswith(("s", "sh", "ch", "x", "z", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return _join(first, rest)


def indefinite_article(phrase: str) -> str:
    """Put `a` or `an` before a phrase, by its sound."""
    return ("an " if _VOWEL_SOUND.match(phrase) else "a ") + phrase


def finish(text: str, mark: str = ".") -> str:
    """Make a sentence: first letter, closing mark, `cannot` in one word, and no comma before another mark."""
    text = re.sub(r",(?=\s*(?:[,.?!]|$))", "", text.strip() + mark)
    text = text.replace(" can not ", " cannot ")
    return text[0].upper() + text[1:]


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _zu_infinitive(verb: Verb) -> str:
    return f"{verb.prefix}zu{verb.infinitive}" if verb.prefix else f"zu {verb.infinitive}"
