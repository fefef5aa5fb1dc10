"""Random choices that make phrases: who, what, when, where, and whole clauses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

from optops.workloads.translation.phrase_grammar import german
from optops.workloads.translation.phrase_grammar.clauses import (
    PRONOUNS,
    Clause,
    NounPhrase,
    Pair,
    Subject,
    Tense,
    indefinite_article,
)
from optops.workloads.translation.phrase_grammar.lexicon import Adjective, Lexicon, Noun, Verb

Choice = TypeVar("Choice")

_TENSES: Final[tuple[Tense, ...]] = (
    "past", "past", "past", "future", "future", "present", "can", "must", "have to", "should", "want to",
    "would like to",
)  # fmt: skip
_DETERMINERS: Final = {"the": "der", "this": "dies", "every": "jed", "which": "welch", "no": "kein", "a": "ein"}
_DEFINITE: Final = {"the", "this", "possessive", "every"}
_SINGULAR_ONLY: Final = {"drink", "facility", "lodging", "bodypart", "extendable", "payable", "place"}
# Nobody plans these or is asked to do them.
_MISHAPS: Final = {"lose", "need", "forget", "miss", "break", "get lost", "argue with", "hide", "complain about"}
_COLOURS: Final = {"red", "blue", "green", "black", "white", "yellow", "brown", "grey"}
_RELATIONS: Final = (
    ("next to", "neben"),
    ("opposite", "gegenüber"),
    ("behind", "hinter"),
    ("in front of", "vor"),
    ("not far from", "nicht weit von"),
)
_PLACE_CLASSES: Final = ("lodging", "outdoors", "room", "nature", "sight", "town")


class Composer:
    """Composes phrases in both languages from a lexicon and a random number generator.

    Args:
        lexicon: The words.
        seed: Same seed, same phrases.
    """

    def __init__(self, lexicon: Lexicon, seed: int) -> None:
        self.lexicon = lexicon
        self._random = random.Random(seed)  # noqa: S311 - for variety, not for secrets

    def choose(self, options: Sequence[Choice]) -> Choice:
        """Choose one."""
        return options[int(self._random.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """Say yes with a probability."""
        return self._random.random() < probability

    def number(self, low: int, high: int) -> int:
        """Choose a whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def name(self, table: str) -> Pair:
        """Choose an entry of a table of names."""
        return self.choose(self.lexicon.names[table])

    def noun(self, *classes: str) -> Noun:
        """Choose a noun of one of the classes."""
        return self.choose(self.lexicon.by_class[self.choose(classes)])

    def subject(self, *, is_person: bool = True) -> Subject:
        """Choose who acts: a pronoun, mostly, or a person."""
        if not is_person or self.chance(0.72):
            return self.choose(PRONOUNS)
        if self.chance(0.3):
            return self._named_person()
        owner = self.choose(PRONOUNS[:2])
        noun = self.noun("relative", "staff")
        style = "possessive" if "relative" in noun.classes else "the"
        return self.as_subject(self.phrase(noun, style, owner=owner, adjectives=0.2), noun)

    def as_subject(self, phrase: NounPhrase, noun: Noun) -> Subject:
        """Let a noun phrase act."""
        is_plural = phrase.gender == "p"
        possessive = ("their", "ihr") if is_plural or "person" not in noun.classes else _possessive(noun)
        return Subject(phrase.english, phrase.german[0], "3p" if is_plural else "3s", *possessive)

    def _named_person(self) -> Subject:
        is_woman = self.chance(0.5)
        possessive = ("her", "ihr") if is_woman else ("his", "sein")
        if self.chance(0.5):
            first, _ = self.name("women" if is_woman else "men")
            return Subject(first, first, "3s", *possessive)
        surname, _ = self.name("surnames")
        titles = ("Ms", "Frau") if is_woman else ("Mr", "Herr")
        return Subject(f"{titles[0]} {surname}", f"{titles[1]} {surname}", "3s", *possessive)

    def phrase(
        self,
        noun: Noun,
        style: str,
        *,
        owner: Subject = PRONOUNS[0],
        adjectives: float = 0.4,
        relative: float = 0.0,
    ) -> NounPhrase:
        """Make a noun phrase.

        Args:
            noun: Its head.
            style: Determiner: a, the, this, every, which, no, possessive; number, bare and plural the take the plural.
            owner: Whose, for a possessive.
            adjectives: Probability of an adjective.
            relative: Probability of a relative clause.
        """
        is_plural = style in {"number", "bare", "the plural", "possessive plural"}
        style = style.removesuffix(" plural")
        english, stem = self._determiner(style, owner)
        after = "" if style in {"number", "bare"} else stem
        chosen = self._adjectives(noun) if self.chance(adjectives) else ()
        words = [word.english for word in chosen] + [noun.english_plural if is_plural else noun.english]
        gender = "p" if is_plural else "m" if noun.gender == "w" else noun.gender
        declined = "p" if is_plural else noun.gender
        cases = tuple(
            " ".join(
                [german.determiner(stem, gender, case)] * bool(after)
                + [stem] * (style == "number")
                + [german.adjective(word.german_stem, after, gender, case) for word in chosen]
                + [german.noun(noun.german, noun.german_plural, declined, case)]
            )
            for case in range(3)
        )
        text = " ".join(words)
        text = indefinite_article(text) if style == "a" else f"{english} {text}".strip()
        result = NounPhrase(text, (cases[0], cases[1], cases[2]), gender, style in _DEFINITE)
        return self._with_relative(result, noun) if relative and self.chance(relative) else result

    def _determiner(self, style: str, owner: Subject) -> Pair:
        if style == "possessive":
            return owner.english_possessive, owner.german_possessive
        if style == "number":
            return self.name("numbers")
        return ("", "") if style == "bare" else (style, _DETERMINERS[style])

    def _adjectives(self, noun: Noun) -> tuple[Adjective, ...]:
        """Choose an adjective, or one of quality and one of colour or origin, which do not contradict."""
        fitting = self.lexicon.adjectives[noun]
        if not fitting:
            return ()
        quality = [word for word in fitting if word.english_comparative]
        kind = [word for word in fitting if word.english[0].isupper() or word.english in _COLOURS]
        if quality and kind and self.chance(0.2):
            return self.choose(quality), self.choose(kind)
        return (self.choose(fitting),)

    def _with_relative(self, phrase: NounPhrase, noun: Noun) -> NounPhrase:
        """Add a relative clause about it as the object: `the hotel that we booked`."""
        verbs = [verb for verb in self.lexicon.transitive if verb.classes & noun.classes]
        if not verbs:
            return phrase
        verb = self.choose(verbs)
        clause = Clause(self.subject(), verb, self.choose(("past", "past", "can", "want to", "have to")))
        if clause.tense == "past" and self.chance(0.3):
            clause = replace(clause, time=self.time("past"))
        pronoun = (
            "denen" if (phrase.gender, verb.case) == ("p", 2) else german.definite_article(phrase.gender, verb.case)
        )
        if verb.preposition:
            pronoun = f"{verb.preposition} {pronoun}"
        addition = clause.german_subordinate(pronoun)
        nominative, accusative, dative = (f"{form}, {addition}," for form in phrase.german)
        relative_pronoun = "who" if "person" in noun.classes else "that"
        english = f"{phrase.english} {relative_pronoun} {clause.english()}"
        return replace(phrase, english=english, german=(nominative, accusative, dative))

    def time(self, tense: Tense) -> Pair:
        """Say when, as the tense allows."""
        if tense == "present":
            return self.name("habit_times")
        if self.chance(0.5):
            return self.name(self.choose(("past_times" if tense == "past" else "future_times",) * 3 + ("any_times",)))
        return self._past_date() if tense == "past" else self.future_date()

    def _past_date(self) -> Pair:
        if self.chance(0.5):
            day, tag = self.name("weekdays")
            return f"last {day}", f"letzten {tag}"
        number, zahl = self.name("numbers")
        unit = self.choose((("days", "Tagen"), ("weeks", "Wochen"), ("hours", "Stunden"), ("months", "Monaten")))
        return f"{number} {unit[0]} ago", f"vor {zahl} {unit[1]}"

    def future_date(self) -> Pair:
        """Name a day or an hour to come."""
        kind = self.number(0, 3)
        if kind == 0:
            day, tag = self.name("weekdays")
            part = self.choose((("", ""), (" morning", "morgen"), (" afternoon", "nachmittag"), (" evening", "abend")))
            return f"on {day}{part[0]}", f"am {tag}{part[1]}"
        if kind == 1:
            month, monat = self.name("months")
            day_number = self.number(1, 28)
            return f"on {month} {day_number}", f"am {day_number}. {monat}"
        if kind == 2:
            clock = self.clock()
            return f"at {clock}", f"um {clock} Uhr"
        number, zahl = self.name("numbers")
        unit = self.choose((("days", "Tagen"), ("weeks", "Wochen"), ("hours", "Stunden"), ("minutes", "Minuten")))
        return f"in {number} {unit[0]}", f"in {zahl} {unit[1]}"

    def clock(self) -> str:
        """Name an hour, such as 14:45."""
        return f"{self.number(5, 23)}:{self.number(0, 11) * 5:02d}"

    def place(self, *classes: str) -> Pair:
        """Say where: in a city, at a named hotel, in or beside some place."""
        kind = self.number(0, 9)
        if kind <= 2:
            english, german_name = self.name(self.choose(("cities", "cities", "countries")))
            return f"in {english}", f"in {german_name}"
        if kind == 3:
            hotel, _ = self.name("hotels")
            return f"at the Hotel {hotel}", f"im Hotel {hotel}"
        noun = self.noun(*(classes or _PLACE_CLASSES))
        phrase = self.phrase(noun, "the", adjectives=0.25)
        if kind <= 7 and noun.english_where:
            return f"{noun.english_where} {phrase.english}", german.contract(noun.german_where, phrase.german[2])
        return self.beside(phrase)

    def beside(self, phrase: NounPhrase) -> Pair:
        """Say where, by what is near."""
        english, preposition = self.choose(_RELATIONS)
        first, _, last = preposition.rpartition(" ")
        return f"{english} {phrase.english}", f"{first} {german.contract(last, phrase.german[2])}".strip()

    def goal(self, verb: Verb) -> Pair:
        """Say where a motion goes."""
        if verb.goal == "to":
            english, german_name = self.name(self.choose(("cities", "countries")))
            return f"to {english}", f"nach {german_name}"
        phrase = self.phrase(self.noun("place", "transport", "town"), "the", adjectives=0.25)
        return f"to {phrase.english}", german.contract("zu", phrase.german[2])

    def object(self, verb: Verb, subject: Subject, *, is_negated: bool = False, relative: float = 0.12) -> NounPhrase:
        """Choose what a verb acts on."""
        noun = self.choose(self.lexicon.by_class[self.choose(sorted(verb.classes))])
        styles = ["the", "the", "this"]
        if noun.classes & {"relative", "bodypart"}:
            return self.phrase(noun, "possessive", owner=subject)
        if noun.classes & {"belonging", "document"}:
            styles = ["possessive", "possessive", "the"]
            if not noun.classes & _SINGULAR_ONLY:
                styles.append("possessive plural")
        elif not noun.classes & _SINGULAR_ONLY:
            styles += ["the plural"] + ([] if is_negated else ["number", "bare"])
        # "no" with a preposition would negate the noun where the clause has "not".
        if not (is_negated and verb.preposition):
            styles += ["no"] * 3 if is_negated else ["a", "a", "a"]
        style = self.choose(styles)
        phrase = self.phrase(noun, style, owner=subject, relative=relative if style == "the" else 0.0)
        # "I did not buy a ticket" is "Ich habe keine Karte gekauft".
        if style == "no":
            phrase = replace(phrase, english=indefinite_article(phrase.english.removeprefix("no ")))
        return phrase

    def clause(
        self,
        subject: Subject | None = None,
        tenses: Sequence[Tense] = _TENSES,
        *,
        negation: float = 0.1,
        detail: float = 0.5,
    ) -> Clause:
        """Make a clause.

        Args:
            subject: Who acts; None for anybody.
            tenses: To choose from.
            negation: Probability of a negation.
            detail: Probability of a time, a place, an adverb.
        """
        subject = subject or self.subject()
        tense = self.choose(tenses)
        is_negated = tense not in {"must", "may"} and self.chance(negation)
        kind = self.number(0, 9)
        verbs = (
            self.lexicon.transitive if kind <= 5 else self.lexicon.intransitive if kind <= 7 else self.lexicon.motion
        )
        verb = self.choose(verbs)
        while tense != "past" and verb.english in _MISHAPS:
            verb = self.choose(verbs)
        clause = Clause(subject, verb, tense, is_negated)
        if verb.case >= 0:
            clause = replace(clause, object=self.object(verb, subject, is_negated=is_negated))
        elif verb.goal:
            clause = replace(clause, place=self.goal(verb))
        elif self.chance(detail):
            clause = replace(clause, place=self.place())
        # After a relative clause it would not be clear what a time belongs to.
        if clause.object and "," in clause.object.german[0]:
            return clause
        if self.chance(detail):
            return replace(clause, time=self.time(tense))
        return replace(clause, adverb=self._adverb(tense)) if not is_negated and self.chance(0.3) else clause

    def _adverb(self, tense: Tense) -> Pair | None:
        table = {"present": "habit_adverbs", "past": "past_adverbs", "future": "future_adverbs"}.get(tense)
        return self.name(table) if table else None


def _possessive(noun: Noun) -> Pair:
    return ("her", "ihr") if noun.gender == "f" else ("his", "sein")
