"""Templates of sentences that are said on the way: directions, timetables, prices, hotel and table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from optops.workloads.translation.phrase_grammar import german
from optops.workloads.translation.phrase_grammar.clauses import PRONOUNS, NounPhrase, Pair, finish
from optops.workloads.translation.phrase_grammar.composer import Composer

_I, _WE = PRONOUNS[:2]
_QUANTITIES: Final = (
    ("liquids", ("bottles", "Flaschen"), ("glasses", "Gläser"), ("litres", "Liter")),
    ("solids", ("kilos", "Kilo"), ("pieces", "Stück"), ("portions", "Portionen")),
)
_GUESTS: Final = (
    ("me", "mich"),
    ("us", "uns"),
    ("my wife", "meine Frau"),
    ("my husband", "meinen Mann"),
    ("the child", "das Kind"),
)


def be(phrase: NounPhrase) -> Pair:
    """Conjugate `be` in the present for a phrase."""
    return ("are", "sind") if phrase.gender == "p" else ("is", "ist")


def location(c: Composer) -> Pair:
    """The bakery is next to the old church."""
    here, there = _two(c, "place", "facility")
    where = c.beside(there)
    return finish(f"{here.english} is {where[0]}"), finish(f"{here.german[0]} ist {where[1]}")


def between(c: Composer) -> Pair:
    """The museum is between the bank and the theatre."""
    here, left = _two(c, "town", "sight")
    right = c.phrase(c.noun("transport", "lodging"), "the", adjectives=0.2)
    return (
        finish(f"{here.english} is between {left.english} and {right.english}"),
        finish(f"{here.german[0]} ist zwischen {left.german[2]} und {right.german[2]}"),
    )


def nearest(c: Composer) -> Pair:
    """Where is the nearest pharmacy?"""
    noun = c.noun("town", "transport", "shopping", "eatery", "equipment")
    gender = "m" if noun.gender == "w" else noun.gender
    adjective = german.adjective("nächst", "der", gender, 0)
    return (
        finish(f"where is the nearest {noun.english}", "?"),
        finish(f"wo ist {german.definite_article(gender, 0)} {adjective} {noun.german}", "?"),
    )


def way_to(c: Composer) -> Pair:
    """How do we get to the harbour from the town hall?"""
    goal, start = _two(c, "place", "transport")
    who = c.choose((_I, _WE))
    come = german.finite("kommen", "kommt", who.person)
    origin, target = german.contract("von", start.german[2]), german.contract("zu", goal.german[2])
    return (
        finish(f"how do {who.english} get from {start.english} to {goal.english}", "?"),
        finish(f"wie {come} {who.german} {origin} {target}", "?"),
    )


def existence(c: Composer) -> Pair:
    """Is there a cash machine next to the hotel?"""
    what = c.phrase(c.noun("equipment", "town", "eatery", "transport"), "a", adjectives=0.3)
    where = c.place()
    if c.chance(0.5):
        return finish(f"is there {what.english} {where[0]}", "?"), finish(f"gibt es {where[1]} {what.german[1]}", "?")
    return finish(f"there is {what.english} {where[0]}"), finish(f"{where[1]} gibt es {what.german[1]}")


def absence(c: Composer) -> Pair:
    """There are no towels in the bathroom."""
    noun = c.noun("roomitem", "equipment", "cutlery", "furniture")
    where = c.place("room", "facility", "lodging")
    if c.chance(0.5):
        what = c.phrase(noun, "no", adjectives=0.3)
        return finish(f"there is {what.english} {where[0]}"), finish(f"{where[1]} gibt es {what.german[1]}")
    what = c.phrase(noun, "bare", adjectives=0.0)
    return finish(f"there are no {what.english} {where[0]}"), finish(f"{where[1]} gibt es keine {what.german[1]}")


def departure(c: Composer) -> Pair:
    """The night train to Vienna leaves at 21:40 from platform 7."""
    city, stadt = c.name("cities")
    phrase = c.phrase(c.noun("railbound"), "the", adjectives=0.2)
    clock, platform = c.clock(), c.number(1, 24)
    return (
        finish(f"{phrase.english} to {city} leaves at {clock} from platform {platform}"),
        finish(f"{phrase.german[0]} nach {stadt} fährt um {clock} Uhr von Gleis {platform} ab"),
    )


def take_off(c: Composer) -> Pair:
    """Our flight to Lisbon with Nordwind takes off at 6:30."""
    city, stadt = c.name("cities")
    airline, _ = c.name("airlines")
    owner, clock = c.choose(PRONOUNS), c.clock()
    flug = german.determiner(owner.german_possessive, "m", 0)
    return (
        finish(f"{owner.english_possessive} flight to {city} with {airline} takes off at {clock}"),
        finish(f"{flug} Flug nach {stadt} mit {airline} startet um {clock} Uhr"),
    )


def delay(c: Composer) -> Pair:
    """The ferry from Oslo is twenty minutes late."""
    phrase = c.phrase(c.noun("public"), "the", adjectives=0.1)
    (city, stadt), (number, zahl) = c.name("cities"), c.name("numbers")
    unit = c.choose((("minutes", "Minuten"), ("hours", "Stunden")))
    return (
        finish(f"{phrase.english} from {city} is {number} {unit[0]} late"),
        finish(f"{phrase.german[0]} aus {stadt} hat {zahl} {unit[1]} Verspätung"),
    )


def which_vehicle(c: Composer) -> Pair:
    """Which tram goes to the zoo?"""
    phrase = c.phrase(c.noun("railbound"), "which", adjectives=0.2)
    goal = c.phrase(c.noun("place", "transport"), "the", adjectives=0.2)
    return (
        finish(f"{phrase.english} goes to {goal.english}", "?"),
        finish(f"{phrase.german[0]} fährt {german.contract('zu', goal.german[2])}", "?"),
    )


def price_question(c: Composer) -> Pair:
    """How much does the return ticket to Graz cost?"""
    phrase = _goods(c)
    do, cost = ("do", "kosten") if phrase.gender == "p" else ("does", "kostet")
    return finish(f"how much {do} {phrase.english} cost", "?"), finish(f"wie viel {cost} {phrase.german[0]}", "?")


def price(c: Composer) -> Pair:
    """The green vase costs 12 euros and 50 cents."""
    phrase = _goods(c)
    costs, kosten = ("cost", "kosten") if phrase.gender == "p" else ("costs", "kostet")
    amount = _amount(c)
    return finish(f"{phrase.english} {costs} {amount[0]}"), finish(f"{phrase.german[0]} {kosten} {amount[1]}")


def price_of_room(c: Composer) -> Pair:
    """A quiet double room with a view of the lake costs 85 euros per night."""
    room = c.phrase(c.noun("room"), "a", adjectives=0.5)
    view = c.phrase(c.noun("nature", "outdoors"), "the", adjectives=0.2)
    euros = c.number(35, 240)
    return (
        finish(f"{room.english} with a view of {view.english} costs {euros} euros per night"),
        finish(f"{room.german[0]} mit Blick auf {view.german[1]} kostet {euros} Euro pro Nacht"),
    )


def quantity(c: Composer) -> Pair:
    """I would like two bottles of red wine, please."""
    number, zahl = c.name("numbers")
    table, *units = c.choose(_QUANTITIES)
    unit, (goods, ware) = c.choose(units), c.name(table)
    who = c.choose((_I, _WE))
    want = german.finite("mögen", "", who.person)
    return (
        finish(f"{who.english} would like {number} {unit[0]} of {goods}, please"),
        finish(f"{who.german} {want} bitte {zahl} {unit[1]} {ware}"),
    )


def weight(c: Composer) -> Pair:
    """Could I have 300 grams of cheese?"""
    grams = c.number(1, 20) * 50
    (goods, ware), (more, mehr) = c.name("solids"), c.name("solids")
    while more == goods:
        more, mehr = c.name("solids")
    return (
        finish(f"could I have {grams} grams of {goods} and some {more}", "?"),
        finish(f"könnte ich {grams} Gramm {ware} und etwas {mehr} haben", "?"),
    )


def order(c: Composer) -> Pair:
    """For me the roast chicken with potatoes, please."""
    guest = c.choose(_GUESTS)
    dish = c.phrase(c.noun("dish", "meal"), "the", adjectives=0.4)
    side = c.phrase(c.noun("side"), "bare", adjectives=0.3)
    return (
        finish(f"for {guest[0]} {dish.english} with {side.english}, please"),
        finish(f"für {guest[1]} bitte {dish.german[1]} mit {side.german[2]}"),
    )


def reservation(c: Composer) -> Pair:
    """I have reserved a table for four people in the name of Weber."""
    who, (number, zahl), (surname, _) = c.choose((_I, _WE)), c.name("numbers"), c.name("surnames")
    what = c.phrase(c.noun("room", "seat"), "a", adjectives=0.4)
    have = german.finite("haben", "", who.person)
    return (
        finish(f"{who.english} have reserved {what.english} for {number} people in the name of {surname}"),
        finish(f"{who.german} {have} {what.german[1]} für {zahl} Personen auf den Namen {surname} reserviert"),
    )


def stay(c: Composer) -> Pair:
    """We are staying at the Hotel Adler for three nights."""
    who, (number, zahl) = c.subject(), c.name("numbers")
    unit = c.choose((("nights", "Nächte"), ("days", "Tage"), ("weeks", "Wochen")))
    where = c.place("lodging", "nature")
    remain = german.finite("bleiben", "bleibt", who.person)
    are = {"1s": "am", "3s": "is"}.get(who.person, "are")
    return (
        finish(f"{who.english} {are} staying {where[0]} for {number} {unit[0]}"),
        finish(f"{who.german} {remain} {zahl} {unit[1]} {where[1]}"),
    )


def floor(c: Composer) -> Pair:
    """Your room is on the third floor next to the lift."""
    owner, (ordinal, zahl) = c.choose(PRONOUNS), c.name("ordinals")
    noun = c.noun("room")
    room = c.phrase(noun, "possessive", owner=owner, adjectives=0.4)
    where = c.beside(c.phrase(c.noun("facility", "equipment"), "the", adjectives=0.1))
    return (
        finish(f"{room.english} is on the {ordinal} floor {where[0]}"),
        finish(f"{room.german[0]} liegt im {zahl} Stock {where[1]}"),
    )


def meal_times(c: Composer) -> Pair:
    """Breakfast is served in the dining room from 7:00 to 10:00."""
    meal = c.choose((("breakfast", "das Frühstück"), ("lunch", "das Mittagessen"), ("dinner", "das Abendessen")))
    where, (start, end) = c.place("facility", "eatery"), _hours(c)
    return (
        finish(f"{meal[0]} is served {where[0]} from {start} to {end}"),
        finish(f"{meal[1]} wird {where[1]} von {start} bis {end} Uhr serviert"),
    )


def closing_day(c: Composer) -> Pair:
    """The art gallery is closed on Mondays."""
    phrase, (day, tag) = c.phrase(c.noun("sight", "town"), "the"), c.name("weekdays")
    return finish(f"{phrase.english} is closed on {day}s"), finish(f"{phrase.german[0]} ist {tag.lower()}s geschlossen")


def opening_hours(c: Composer) -> Pair:
    """The post office opens at 8:30 and closes at 18:00."""
    phrase, (start, end) = c.phrase(c.noun("sight", "town"), "the", adjectives=0.3), _hours(c)
    return (
        finish(f"{phrase.english} opens at {start} and closes at {end}"),
        finish(f"{phrase.german[0]} öffnet um {start} Uhr und schließt um {end} Uhr"),
    )


def turn(c: Composer) -> Pair:
    """Turn left after the traffic light."""
    side = c.choose((("left", "links"), ("right", "rechts")))
    where = c.choose((("after", "nach"), ("before", "vor"), ("behind", "hinter")))
    phrase = c.phrase(c.noun("way", "sight", "town"), "the", adjectives=0.35)
    return (
        finish(f"turn {side[0]} {where[0]} {phrase.english}"),
        finish(f"biegen Sie {where[1]} {phrase.german[2]} {side[1]} ab"),
    )


def distance(c: Composer) -> Pair:
    """The airport is twelve kilometres away from the city centre."""
    here, there = _two(c, "place", "transport")
    number, zahl = c.name("numbers")
    unit = c.choose((("kilometres", "Kilometer"), ("metres", "Meter"), ("minutes", "Minuten")))
    return (
        finish(f"{here.english} is {number} {unit[0]} away from {there.english}"),
        finish(f"{here.german[0]} ist {zahl} {unit[1]} {german.contract('von', there.german[2])} entfernt"),
    )


def meeting_point(c: Composer) -> Pair:
    """Let us meet on Friday evening in front of the theatre."""
    time, where = c.future_date(), c.beside(c.phrase(c.noun("place", "facility"), "the", adjectives=0.3))
    return finish(f"let us meet {time[0]} {where[0]}"), finish(f"treffen wir uns {time[1]} {where[1]}")


def _two(c: Composer, *classes: str) -> tuple[NounPhrase, NounPhrase]:
    """Choose two different places."""
    first = c.noun(*classes)
    second = c.noun(*classes)
    while second is first:
        second = c.noun(*classes)
    return c.phrase(first, "the", adjectives=0.25), c.phrase(second, "the", adjectives=0.25)


def _hours(c: Composer) -> Pair:
    """Choose when something begins and ends."""
    return f"{c.number(6, 12)}:{c.number(0, 3) * 15:02d}", f"{c.number(13, 23)}:{c.number(0, 3) * 15:02d}"


def _goods(c: Composer) -> NounPhrase:
    noun = c.noun("souvenir", "clothing", "ticket", "food", "drink", "thing", "gear")
    return c.phrase(noun, c.choose(("the", "the", "this") + (() if "drink" in noun.classes else ("the plural",))))


def _amount(c: Composer) -> Pair:
    euros, cents = c.number(2, 180), c.number(1, 19) * 5
    if c.chance(0.4):
        return f"{euros} euros", f"{euros} Euro"
    return f"{euros} euros and {cents} cents", f"{euros} Euro und {cents} Cent"


TEMPLATES: Final[tuple[tuple[int, Callable[[Composer], Pair]], ...]] = (
    (2, location), (1, between), (1, nearest), (2, way_to), (2, existence), (1, absence), (1, departure),
    (1, take_off), (1, delay), (1, which_vehicle), (1, price_question), (2, price), (1, price_of_room), (1, quantity),
    (1, weight), (2, order), (1, reservation), (2, stay), (1, floor), (1, meal_times), (1, closing_day),
    (1, opening_hours), (1, turn), (1, distance), (1, meeting_point),
)  # fmt: skip
