"""Templates of sentences that are built of whole clauses: statements, questions, requests, subordination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from optops.workloads.translation.phrase_grammar import german
from optops.workloads.translation.phrase_grammar.clauses import (
    PRONOUNS,
    Clause,
    NounPhrase,
    Pair,
    Subject,
    Tense,
    finish,
)
from optops.workloads.translation.phrase_grammar.composer import Composer
from optops.workloads.translation.phrase_grammar.lexicon import Verb

_PLANS: Final[tuple[Tense, ...]] = ("future", "can", "have to", "want to", "would like to", "should")
_REPORTED: Final[tuple[Tense, ...]] = ("past", "past", "future", "can", "want to", "have to", "should")
_ASKED: Final[tuple[Tense, ...]] = ("past", "can", "want to", "have to", "should", "would like to", "present")
_I, _WE, _YOU = PRONOUNS[:3]

# Main clauses that report a clause; the German finite verb is spelt out.
_REPORTS: Final = (
    ("I think that", "ich glaube, dass"), ("I hope that", "ich hoffe, dass"), ("I know that", "ich weiß, dass"),
    ("we are sure that", "wir sind sicher, dass"), ("it is possible that", "es ist möglich, dass"),
    ("everyone knows that", "jeder weiß, dass"), ("I am glad that", "ich bin froh, dass"),
    ("I am sorry that", "es tut mir leid, dass"), ("it is a pity that", "es ist schade, dass"),
    ("the receptionist said that", "die Empfangsdame hat gesagt, dass"),
    ("I have heard that", "ich habe gehört, dass"), ("we are afraid that", "wir befürchten, dass"),
)  # fmt: skip
_DOUBTS: Final = (
    ("I do not know whether", "ich weiß nicht, ob"), ("nobody knows whether", "niemand weiß, ob"),
    ("I am not sure whether", "ich bin nicht sicher, ob"), ("I wonder whether", "ich frage mich, ob"),
    ("we would like to know whether", "wir möchten wissen, ob"),
)  # fmt: skip
_INDIRECT: Final = (
    ("can you tell me", "können Sie mir sagen", "?"), ("do you know", "wissen Sie", "?"),
    ("I would like to know", "ich möchte wissen", "."), ("please tell me", "bitte sagen Sie mir", "."),
    ("nobody knows", "niemand weiß", "."), ("I have forgotten", "ich habe vergessen", "."),
)  # fmt: skip
_QUESTION_WORDS: Final = (("when", "wann"), ("why", "warum"), ("where", "wo"), ("how", "wie"))
# English with "to", German with "zu"; each German verb by person 1s and plural.
_INTENTIONS: Final = (
    ("plan to", "plane", "planen"), ("promise to", "verspreche", "versprechen"), ("hope to", "hoffe", "hoffen"),
    ("refuse to", "weigere mich", "weigern uns"), ("intend to", "beabsichtige", "beabsichtigen"),
    ("try to", "versuche", "versuchen"), ("have decided to", "habe beschlossen", "haben beschlossen"),
    ("forgot to", "habe vergessen", "haben vergessen"),
)  # fmt: skip


def statement(c: Composer) -> Pair:
    """I have to exchange the blue coat tomorrow."""
    clause = c.clause()
    return finish(clause.english()), finish(clause.german())


def fronted_time(c: Composer) -> Pair:
    """Tomorrow, we will visit the old castle."""
    clause = c.clause()
    time = clause.time or c.time(clause.tense)
    clause = replace(clause, time=time, adverb=None)
    return (
        finish(f"{time[0]}, {clause.english(has_time=False)}"),
        finish(clause.german(time[1], has_time=False)),
    )


def with_opener(c: Composer) -> Pair:
    """Unfortunately, my brother lost his passport."""
    clause, opener = replace(c.clause(), adverb=None), c.name("openers")
    return finish(f"{opener[0]}, {clause.english()}"), finish(clause.german(opener[1]))


def polar_question(c: Composer) -> Pair:
    """Did you forget your key?"""
    clause = c.clause(c.choose((_YOU, _YOU, c.subject())), _ASKED, negation=0.05)
    return finish(clause.english("question"), "?"), finish(clause.german_question(), "?")


def permission_question(c: Composer) -> Pair:
    """May we leave our luggage here?"""
    clause = c.clause(c.choose((_I, _WE)), ("may", "can"), negation=0)
    return finish(clause.english("question"), "?"), finish(clause.german_question(), "?")


def word_question(c: Composer) -> Pair:
    """Where can I rent a bicycle?"""
    clause = replace(_unlocated(c), adverb=None)
    word, wort = c.choose(_QUESTION_WORDS)
    clause = replace(clause, time=None) if word == "when" else clause
    return finish(f"{word} {clause.english('question')}", "?"), finish(clause.german(wort), "?")


def indirect_question(c: Composer) -> Pair:
    """Can you tell me where I can buy a ticket?"""
    clause = _unlocated(c)
    word, wort = c.choose(_QUESTION_WORDS)
    clause = replace(clause, time=None) if word == "when" else clause
    lead, auftakt, mark = c.choose(_INDIRECT)
    return (
        finish(f"{lead} {word} {clause.english()}", mark),
        finish(f"{auftakt}, {clause.german_subordinate(wort)}", mark),
    )


def whether(c: Composer) -> Pair:
    """I do not know whether the guide will wait for us."""
    clause = c.clause(tenses=_REPORTED)
    lead, auftakt = c.choose(_DOUBTS)
    return finish(f"{lead} {clause.english()}"), finish(clause.german_subordinate(auftakt))


def reported(c: Composer) -> Pair:
    """I hope that they will repair the shower."""
    clause = c.clause(tenses=_REPORTED)
    lead, auftakt = c.choose(_REPORTS)
    return finish(f"{lead} {clause.english()}"), finish(clause.german_subordinate(auftakt))


def doubly_reported(c: Composer) -> Pair:
    """I think that the waiter knows that we ordered the fish."""
    clause = c.clause(tenses=_REPORTED, detail=0.2)
    (lead, auftakt), speaker = c.choose(_REPORTS), c.subject()
    knows = "knows" if speaker.person == "3s" else "know"
    weiss = {"1s": "weiß", "3s": "weiß"}.get(speaker.person, "wissen")
    return (
        finish(f"{lead} {speaker.english} {knows} that {clause.english()}"),
        finish(f"{auftakt} {speaker.german} {weiss}, {clause.german_subordinate('dass')}"),
    )


def because(c: Composer) -> Pair:
    """We bought a raincoat because it was raining: a reason or a concession after the main clause."""
    first = c.clause(negation=0.15, detail=0.25)
    second = c.clause(_companion(c, first), ("past", "want to", "have to", "can"), negation=0.2, detail=0.25)
    word, wort = c.choose((("because", "weil"), ("because", "weil"), ("although", "obwohl")))
    return (
        finish(f"{first.english()} {word} {second.english()}"),
        finish(f"{first.german()}, {second.german_subordinate(wort)}"),
    )


def because_first(c: Composer) -> Pair:
    """Because we missed the train, we have to wait: the main clause begins with its verb."""
    first = c.clause(tenses=("past", "want to", "have to"), negation=0.2, detail=0.2)
    second = replace(c.clause(_companion(c, first), _PLANS, detail=0.25), adverb=None)
    word, wort = c.choose((("because", "weil"), ("although", "obwohl")))
    return (
        finish(f"{word} {first.english()}, {second.english()}"),
        finish(second.german(first.german_subordinate(wort) + ",")),
    )


def condition(c: Composer) -> Pair:
    """If you lose your key, you have to pay the bill."""
    first = c.clause(tenses=("present", "want to", "can"), negation=0.15, detail=0.15)
    second = replace(c.clause(_companion(c, first), _PLANS, detail=0.25), adverb=None)
    return (
        finish(f"if {first.english()}, {second.english()}"),
        finish(second.german(first.german_subordinate("wenn") + ",")),
    )


def condition_last(c: Composer) -> Pair:
    """You can call me if you need help."""
    first = c.clause(tenses=_PLANS, detail=0.2)
    second = c.clause(_companion(c, first), ("present", "want to", "have to"), negation=0.15, detail=0.2)
    return (
        finish(f"{first.english()} if {second.english()}"),
        finish(f"{first.german()}, {second.german_subordinate('wenn')}"),
    )


def before(c: Composer) -> Pair:
    """I packed my suitcase before I left the hotel."""
    first = c.clause(tenses=("past",), negation=0, detail=0.2)
    second = c.clause(_companion(c, first), ("past",), negation=0, detail=0.2)
    return (
        finish(f"{first.english()} before {second.english()}"),
        finish(f"{first.german()}, {second.german_subordinate('bevor')}"),
    )


def purpose(c: Composer) -> Pair:
    """We went to the market in order to buy a carpet."""
    first = c.clause(detail=0.25)
    second = c.clause(first.subject, ("present",), negation=0, detail=0.15)
    second = replace(second, adverb=None, time=None)
    return (
        finish(f"{first.english()} in order to {second.english_infinitive()}"),
        finish(f"{first.german()}, um {second.german_infinitive(with_zu=True)}"),
    )


def intention(c: Composer) -> Pair:
    """I promise to return the umbrella."""
    subject = c.choose((_I, _WE))
    clause = replace(c.clause(subject, ("future",), negation=0, detail=0.35), adverb=None)
    english, singular, plural = c.choose(_INTENTIONS)
    verb = singular if subject is _I else plural
    return (
        finish(f"{subject.english} {english} {clause.english_infinitive()}"),
        finish(f"{subject.german} {verb}, {clause.german_infinitive(with_zu=True)}"),
    )


def coordination(c: Composer) -> Pair:
    """I booked the flight, and my husband reserved a room."""
    first = c.clause(tenses=("past", "future", "can", "want to"), detail=0.25)
    second = c.clause(tenses=(first.tense,), negation=0.2, detail=0.25)
    word, wort = c.choose((("and", "und"), ("but", "aber")))
    return finish(f"{first.english()}, {word} {second.english()}"), finish(
        f"{first.german()}, {wort} {second.german()}"
    )


def consequence(c: Composer) -> Pair:
    """We missed the ferry, so we have to wait."""
    first = c.clause(tenses=("past",), negation=0.2, detail=0.25)
    second = replace(c.clause(_companion(c, first), _PLANS, detail=0.25), adverb=None)
    return (
        finish(f"{first.english()}, so {second.english()}"),
        finish(f"{first.german()}, {second.german('deshalb')}"),
    )


def request(c: Composer) -> Pair:
    """Please clean the bathroom before noon."""
    clause = replace(c.clause(_YOU, ("present",), negation=0.2, detail=0.0), adverb=None)
    if c.chance(0.4):
        clause = replace(clause, time=c.name("future_times"))
    negation = "do not " if clause.is_negated else ""
    return (
        finish(f"please {negation}{clause.english_infinitive()}"),
        finish("bitte " + clause.german_question()),
    )


def polite_request(c: Composer) -> Pair:
    """Could you please turn off the television?"""
    clause = replace(c.clause(_YOU, ("future",), negation=0, detail=0.3), adverb=None)
    lead, auftakt = c.choose((("could you please", "könnten Sie bitte"), ("would you please", "würden Sie bitte")))
    return (
        finish(f"{lead} {clause.english_infinitive()}", "?"),
        finish(f"{auftakt} {clause.german_infinitive(with_zu=False)}", "?"),
    )


def suggestion(c: Composer) -> Pair:
    """Let us visit the museum."""
    clause = replace(c.clause(_WE, ("future",), negation=0, detail=0.4), adverb=None)
    return (
        finish(f"let us {clause.english_infinitive()}"),
        finish(f"lassen Sie uns {clause.german_infinitive(with_zu=False)}"),
    )


def passive(c: Composer) -> Pair:
    """The room was cleaned yesterday."""
    verb, phrase = _passive_parts(c)
    was = "were" if phrase.gender == "p" else "was"
    wurde = "wurden" if phrase.gender == "p" else "wurde"
    time = c.time("past")
    return (
        finish(f"{phrase.english} {was} {verb.english_past} {time[0]}"),
        finish(f"{phrase.german[0]} {wurde} {time[1]} {verb.participle}"),
    )


def passive_obligation(c: Composer) -> Pair:
    """The bill must be paid today."""
    verb, phrase = _passive_parts(c)
    time = c.time("future")
    modal, modal_german = c.choose((("must", "müssen"), ("can", "können"), ("should", "sollen")))
    fin = german.finite(modal_german, "", "3p" if phrase.gender == "p" else "3s")
    return (
        finish(f"{phrase.english} {modal} be {verb.english_past} {time[0]}"),
        finish(f"{phrase.german[0]} {fin} {time[1]} {verb.participle} werden"),
    )


def _passive_parts(c: Composer) -> tuple[Verb, NounPhrase]:
    """Choose a verb whose English participle is its past form, and what it is done to."""
    verbs = [verb for verb in c.lexicon.transitive if verb.case == 1 and not verb.preposition and _is_regular(verb)]
    verb = c.choose(verbs)
    noun = c.choose(c.lexicon.by_class[c.choose(sorted(verb.classes))])
    style = "possessive" if "relative" in noun.classes else c.choose(("the", "this", "the plural"))
    return verb, c.phrase(noun, style, owner=c.choose(PRONOUNS))


def _is_regular(verb: Verb) -> bool:
    return verb.english_past.endswith("ed") and verb.english != "show"


def _unlocated(c: Composer) -> Clause:
    """Make a clause that says nothing of place and is not negated: what a question word may ask about."""
    clause = c.clause(c.choose((_I, _WE, _YOU, c.subject())), _ASKED, negation=0, detail=0.3)
    return clause if clause.verb.goal else replace(clause, place=None)


def _companion(c: Composer, clause: Clause) -> Subject:
    """Choose the subject of the next clause: the same, as a pronoun, or another."""
    first = clause.subject
    if c.chance(0.5):
        return c.subject()
    if first.person in {"1s", "1p", "2"}:
        return first
    return next(word for word in PRONOUNS[3:] if word.english_possessive == first.english_possessive)


TEMPLATES: Final[tuple[tuple[int, Callable[[Composer], Pair]], ...]] = (
    (12, statement), (5, fronted_time), (3, with_opener), (5, polar_question), (3, permission_question),
    (5, word_question), (4, indirect_question), (2, whether), (4, reported), (1, doubly_reported), (5, because),
    (3, because_first), (3, condition), (3, condition_last), (2, before), (3, purpose), (3, intention),
    (3, coordination), (2, consequence), (4, request), (4, polite_request), (2, suggestion), (2, passive),
    (2, passive_obligation),
)  # fmt: skip
