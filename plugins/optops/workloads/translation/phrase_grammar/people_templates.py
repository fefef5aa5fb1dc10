"""Templates of sentences about people and what they think of things: comparison, complaint, health, thanks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from optops.workloads.translation.phrase_grammar import german
from optops.workloads.translation.phrase_grammar.clauses import PRONOUNS, NounPhrase, Pair, finish
from optops.workloads.translation.phrase_grammar.composer import Composer
from optops.workloads.translation.phrase_grammar.lexicon import Adjective, Noun
from optops.workloads.translation.phrase_grammar.travel_templates import be

_DESCRIBED: Final = ("room", "lodging", "eatery", "sight", "food", "clothing", "vehicle", "event", "person", "trip")
_RECEIVERS: Final = (("me", "mir"), ("us", "uns"), ("him", "ihm"), ("you", "Ihnen"), ("them", "ihnen"))
# English past, German participle, classes of what is handed over.
_GIVING: Final = (
    ("gave", "gegeben", ("portable", "thing", "document")), ("showed", "gezeigt", ("sight", "document", "room")),
    ("lent", "geliehen", ("gear", "reading", "rentable")), ("sold", "verkauft", ("souvenir", "clothing", "ticket")),
    ("brought", "gebracht", ("drink", "cutlery", "roomitem")), ("sent", "geschickt", ("sendable", "document")),
)  # fmt: skip
_SUBJECT_RELATIVES: Final = (
    ("who helped {}", "{article}, {pronoun} {dative} geholfen hat"),
    ("who greeted {}", "{article}, {pronoun} {accusative} begrüßt hat"),
    ("who called {}", "{article}, {pronoun} {accusative} angerufen hat"),
    ("who accompanied {}", "{article}, {pronoun} {accusative} begleitet hat"),
    ("who waited for {}", "{article}, {pronoun} auf {accusative} gewartet hat"),
    ("who talked to {}", "{article}, {pronoun} mit {dative} gesprochen hat"),
)  # fmt: skip
_OBJECTS: Final = (
    ("me", "mich", "mir"),
    ("us", "uns", "uns"),
    ("him", "ihn", "ihm"),
    ("you", "Sie", "Ihnen"),
    ("them", "sie", "ihnen"),
)
_DEGREES: Final = (("", ""), ("very ", "sehr "), ("too ", "zu "), ("not ", "nicht "))


def description(c: Composer) -> Pair:
    """The soup is too salty."""
    noun, word = _described(c, needs_degree=False)
    phrase = _something(c, noun)
    degree = c.choose(_DEGREES if word.english_comparative else _DEGREES[:1])
    return (
        finish(f"{phrase.english} {be(phrase)[0]} {degree[0]}{word.english}"),
        finish(f"{phrase.german[0]} {be(phrase)[1]} {degree[1]}{word.german}"),
    )


def unsuitable(c: Composer) -> Pair:
    """The suitcase is too heavy for my grandmother."""
    noun, word = _described(c, needs_degree=True)
    phrase, person = _something(c, noun), c.phrase(c.noun("relative"), "possessive", owner=c.choose(PRONOUNS))
    return (
        finish(f"{phrase.english} {be(phrase)[0]} too {word.english} for {person.english}"),
        finish(f"{phrase.german[0]} {be(phrase)[1]} für {person.german[1]} zu {word.german}"),
    )


def comparison(c: Composer) -> Pair:
    """The guest house is cheaper than the hotel."""
    first, second, word = _compared(c)
    return (
        finish(f"{first.english} {be(first)[0]} {word.english_comparative} than {second.english}"),
        finish(f"{first.german[0]} {be(first)[1]} {word.german_comparative} als {second.german[0]}"),
    )


def equality(c: Composer) -> Pair:
    """The tram is not as fast as the train."""
    first, second, word = _compared(c)
    negation = c.choose((("not ", "nicht so"), ("", "genauso")))
    return (
        finish(f"{first.english} {be(first)[0]} {negation[0]}as {word.english} as {second.english}"),
        finish(f"{first.german[0]} {be(first)[1]} {negation[1]} {word.german} wie {second.german[0]}"),
    )


def opinion(c: Composer) -> Pair:
    """My sister finds the lake more beautiful than the beach."""
    who = c.subject()
    first, second, word = _compared(c)
    find = "finds" if who.person == "3s" else "find"
    finden = german.finite("finden", "findet", who.person)
    return (
        finish(f"{who.english} {find} {first.english} {word.english_comparative} than {second.english}"),
        finish(f"{who.german} {finden} {first.german[1]} {word.german_comparative} als {second.german[1]}"),
    )


def superlative(c: Composer) -> Pair:
    """This is the oldest church in Prague."""
    noun, word = _described(c, needs_degree=True)
    city, stadt = c.name(c.choose(("cities", "countries")))
    gender = "m" if noun.gender == "w" else noun.gender
    article = german.definite_article(gender, 0)
    return (
        finish(f"this is the {word.english_superlative} {noun.english} in {city}"),
        finish(
            f"das ist {article} {german.adjective(word.german_superlative, 'der', gender, 0)} {noun.german} in {stadt}"
        ),
    )


def described_relative(c: Composer) -> Pair:
    """The hotel that we booked is expensive."""
    noun, word = _described(c, needs_degree=False)
    phrase = c.phrase(noun, c.choose(("the", "the", "the plural")), adjectives=0.2, relative=1.0)
    return (
        finish(f"{phrase.english} {be(phrase)[0]} {word.english}"),
        finish(f"{phrase.german[0]} {be(phrase)[1]} {word.german}"),
    )


def helper(c: Composer) -> Pair:
    """The waitress who helped us was friendly."""
    noun = c.noun("staff", "guest")
    word = c.choose(c.lexicon.adjectives[noun])
    person, (english, deutsch) = c.choose(_OBJECTS), c.choose(_SUBJECT_RELATIVES)
    phrase = c.phrase(noun, "the", adjectives=0.2)
    clause = deutsch.format(
        article=phrase.german[0],
        pronoun=german.definite_article(phrase.gender, 0),
        accusative=person[1],
        dative=person[2],
    )
    return (
        finish(f"{phrase.english} {english.format(person[0])} was very {word.english}"),
        finish(f"{clause}, war sehr {word.german}"),
    )


def giving(c: Composer) -> Pair:
    """The waiter brought my wife a glass."""
    who = c.subject()
    english, participle, classes = c.choose(_GIVING)
    thing = c.phrase(c.noun(*classes), c.choose(("a", "this")), adjectives=0.4)
    receiver = c.choose(_RECEIVERS)
    if c.chance(0.6):
        person = c.phrase(c.noun("relative"), "possessive", owner=who, adjectives=0.2)
        receiver = (person.english, person.german[2])
    elif who.person in {"1s", "1p", "2"}:
        receiver = c.choose(_RECEIVERS[2:3] + _RECEIVERS[4:])
    have = german.finite("haben", "hat", who.person)
    return (
        finish(f"{who.english} {english} {receiver[0]} {thing.english}"),
        finish(f"{who.german} {have} {receiver[1]} {thing.german[1]} {participle}"),
    )


def belonging(c: Composer) -> Pair:
    """This suitcase belongs to my brother."""
    thing = c.phrase(c.noun("belonging", "luggage"), c.choose(("the", "this")), adjectives=0.5)
    person = c.phrase(c.noun("relative"), "possessive", owner=c.choose(PRONOUNS), adjectives=0.2)
    return (
        finish(f"{thing.english} belongs to {person.english}"),
        finish(f"{thing.german[0]} gehört {person.german[2]}"),
    )


def liking(c: Composer) -> Pair:
    """My husband likes the old lighthouse."""
    person = c.phrase(c.noun("relative"), "possessive", owner=c.choose(PRONOUNS), adjectives=0.2)
    thing = c.phrase(c.noun(*_DESCRIBED[:5], "nature"), c.choose(("the", "this")), adjectives=0.5)
    if c.chance(0.25):
        return (
            finish(f"{person.english} does not like {thing.english}"),
            finish(f"{person.german[2]} gefällt {thing.german[0]} nicht"),
        )
    return finish(f"{person.english} likes {thing.english}"), finish(f"{person.german[2]} gefällt {thing.german[0]}")


def both(c: Composer) -> Pair:
    """We visited both the museum and the castle."""
    who = c.subject()
    first, second = c.noun("sight"), c.noun("nature", "shopping")
    one, two = c.phrase(first, "the", adjectives=0.3), c.phrase(second, "the", adjectives=0.3)
    words = c.choose((("both", "and", "sowohl", "als auch"), ("neither", "nor", "weder", "noch")))
    have = german.finite("haben", "hat", who.person)
    return (
        finish(f"{who.english} saw {words[0]} {one.english} {words[1]} {two.english}"),
        finish(f"{who.german} {have} {words[2]} {one.german[1]} {words[3]} {two.german[1]} gesehen"),
    )


def need(c: Composer) -> Pair:
    """We need two clean towels."""
    who = c.subject()
    noun = c.noun("roomitem", "cutlery", "gear", "document", "ticket", "reading")
    thing = c.phrase(noun, c.choose(("a", "number", "number", "this")), adjectives=0.5)
    brauchen = german.finite("brauchen", "braucht", who.person)
    return (
        finish(f"{who.english} {'needs' if who.person == '3s' else 'need'} {thing.english}"),
        finish(f"{who.german} {brauchen} {thing.german[1]}"),
    )


def malfunction(c: Composer) -> Pair:
    """The heater in our room does not work."""
    thing = c.phrase(c.noun("equipment"), "the", adjectives=0.3)
    room = c.phrase(c.noun("room"), "possessive", owner=c.choose(PRONOUNS[:2]), adjectives=0.2)
    return (
        finish(f"{thing.english} in {room.english} does not work"),
        finish(f"{thing.german[0]} in {room.german[2]} funktioniert nicht"),
    )


def theft(c: Composer) -> Pair:
    """Someone stole my wallet at the station."""
    owner = c.choose(PRONOUNS)
    thing = c.phrase(c.noun("belonging", "luggage"), "possessive", owner=owner, adjectives=0.4)
    where = c.place("transport", "shopping", "eatery")
    return (
        finish(f"someone stole {thing.english} {where[0]}"),
        finish(f"jemand hat {where[1]} {thing.german[1]} gestohlen"),
    )


def pain(c: Composer) -> Pair:
    """My left knee hurts."""
    owner = c.choose(PRONOUNS)
    noun = c.noun("limb")
    side = c.choose((("left", "link"), ("right", "recht")))
    ending = german.adjective(side[1], "mein", noun.gender, 0)
    article = german.determiner(owner.german_possessive, noun.gender, 0)
    since = c.name("numbers")
    return (
        finish(f"{owner.english_possessive} {side[0]} {noun.english} has been hurting for {since[0]} days"),
        finish(f"{article} {ending} {noun.german} tut seit {since[1]} Tagen weh"),
    )


def symptom(c: Composer) -> Pair:
    """I have had a headache for three days."""
    who, (number, zahl), (english, deutsch) = c.subject(), c.name("numbers"), c.name("complaints")
    have, haben = ("has" if who.person == "3s" else "have"), german.finite("haben", "hat", who.person)
    unit = c.choose((("days", "Tagen"), ("weeks", "Wochen"), ("hours", "Stunden")))
    return (
        finish(f"{who.english} {have} had {english} for {number} {unit[0]}"),
        finish(f"{who.german} {haben} seit {zahl} {unit[1]} {deutsch}"),
    )


def waiting(c: Composer) -> Pair:
    """We have been waiting for the bus for twenty minutes."""
    who, (number, zahl) = c.subject(), c.name("numbers")
    phrase = c.phrase(c.noun("public", "person", "food"), "the", adjectives=0.2)
    have, warten = ("has" if who.person == "3s" else "have"), german.finite("warten", "wartet", who.person)
    return (
        finish(f"{who.english} {have} been waiting for {phrase.english} for {number} minutes"),
        finish(f"{who.german} {warten} seit {zahl} Minuten auf {phrase.german[1]}"),
    )


def weather(c: Composer) -> Pair:
    """It will be foggy in Bergen tomorrow."""
    (english, deutsch), (time, zeit) = c.name("weather"), c.name("future_times")
    city, stadt = c.name(c.choose(("cities", "countries")))
    return finish(f"it will be {english} in {city} {time}"), finish(f"{zeit} wird es in {stadt} {deutsch}")


def introduction(c: Composer) -> Pair:
    """My name is Anna Weber and I come from Lyon."""
    first, _ = c.name(c.choose(("women", "men")))
    (surname, _), (city, stadt) = c.name("surnames"), c.name(c.choose(("cities", "countries")))
    return (
        finish(f"my name is {first} {surname} and I come from {city}"),
        finish(f"ich heiße {first} {surname} und komme aus {stadt}"),
    )


def languages(c: Composer) -> Pair:
    """My wife speaks French and a little Polish."""
    who = c.subject()
    (one, eine), (two, andere) = c.name("languages"), c.name("languages")
    while two == one:
        two, andere = c.name("languages")
    speak, sprechen = ("speaks" if who.person == "3s" else "speak"), german.finite("sprechen", "spricht", who.person)
    return (
        finish(f"{who.english} {speak} {one} and a little {two}"),
        finish(f"{who.german} {sprechen} {eine} und ein wenig {andere}"),
    )


def thanks(c: Composer) -> Pair:
    """Thank you very much for the delicious cake."""
    thing = c.phrase(c.noun("food", "event", "souvenir", "reading"), "the", adjectives=0.8)
    return finish(f"thank you very much for {thing.english}"), finish(f"vielen Dank für {thing.german[1]}")


def excuse(c: Composer) -> Pair:
    """Excuse me, is this window seat free?"""
    noun, word = _described(c, needs_degree=False)
    phrase = c.phrase(noun, c.choose(("this", "the", "the plural")), adjectives=0.2)
    return (
        finish(f"excuse me, {be(phrase)[0]} {phrase.english} {word.english}", "?"),
        finish(f"Entschuldigung, {be(phrase)[1]} {phrase.german[0]} {word.german}", "?"),
    )


def age(c: Composer) -> Pair:
    """The fortress is 700 years old."""
    phrase, years = (
        c.phrase(c.noun("sight", "lodging"), c.choose(("the", "this")), adjectives=0.4),
        c.number(2, 90) * 10,
    )
    return finish(f"{phrase.english} is {years} years old"), finish(f"{phrase.german[0]} ist {years} Jahre alt")


def _described(c: Composer, *, needs_degree: bool) -> tuple[Noun, Adjective]:
    noun = c.noun(*_DESCRIBED)
    words = [word for word in c.lexicon.adjectives[noun] if word.english_comparative or not needs_degree]
    return noun, c.choose(words)


def _something(c: Composer, noun: Noun) -> NounPhrase:
    styles = ("the", "the", "this") + (("the plural",) if "lodging" not in noun.classes else ())
    return c.phrase(noun, c.choose(styles), adjectives=0.0)


def _compared(c: Composer) -> tuple[NounPhrase, NounPhrase, Adjective]:
    """Choose two things that an adjective with degrees suits."""
    noun, word = _described(c, needs_degree=True)
    others = [other for name in sorted(noun.classes & word.classes) for other in c.lexicon.by_class[name]]
    other = c.choose(others)
    while other is noun:
        other = c.choose(others)
    return _something(c, noun), c.phrase(other, "the", adjectives=0.0), word


TEMPLATES: Final[tuple[tuple[int, Callable[[Composer], Pair]], ...]] = (
    (2, description), (2, unsuitable), (2, comparison), (1, equality), (1, opinion), (1, superlative),
    (2, described_relative), (1, helper), (2, giving), (1, belonging), (1, liking), (1, both), (1, malfunction),
    (2, need), (1, theft), (1, pain), (1, symptom), (1, waiting), (1, weather), (1, introduction), (1, languages),
    (1, thanks), (1, excuse), (1, age),
)  # fmt: skip
