"""A corpus of travellers' messages, labelled with what they want, made by a grammar: as large as wanted, free to use.

It lets the pipeline be tried, tested and shown without any data set. What a message is about (a hotel, a train, a bag)
says nothing of its class, and many messages mention something that belongs to another class ("i do not want to cancel
anything"), so single words mislead; a small encoder learns the task well, and a damaged model visibly loses.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from optops.workloads.text_lines import normalise

CLASSES: Final = ("booking", "cancellation", "complaint", "question")
_WORDS: Final = range(4, 31)

_THINGS: Final = {
    "hotel room": ("double room", "single room", "room with a view", "family room", "quiet room", "suite"),
    "ticket": ("train ticket", "bus ticket", "return ticket", "night train", "window seat", "seat on the ferry"),
    "service": ("airport transfer", "rental car", "guided tour", "boat trip", "cooking class", "table for dinner"),
}
_PLACES: Final = (
    "Berlin", "Lisbon", "Vienna", "Prague", "Oslo", "Porto", "Athens", "Dublin", "Naples", "Seville", "Krakow", "Lyon",
)  # fmt: skip
_TIMES: Final = (
    "tomorrow", "on Monday", "on Friday evening", "next week", "for two nights", "in early May", "at noon",
    "on the 14th", "this weekend", "over Easter", "for three days in June", "on Sunday morning",
)  # fmt: skip
_OPENINGS: Final = ("", "", "", "hello, ", "hi there, ", "good morning, ", "dear team, ", "excuse me, ")
_ENDINGS: Final = ("", "", "", " thank you", " thanks in advance", " best regards", " please answer soon")

_BOOKING: Final = (
    "i would like to book a {thing} in {place} {time}",
    "please reserve a {thing} {time} for {people}",
    "we need a {thing} {time}, can you arrange that",
    "could you put {people} down for a {thing} in {place}",
    "is a {thing} still free {time}, if so i take it",
    "add one more {thing} to my trip to {place}",
)
_CANCELLATION: Final = (
    "i have to cancel the {thing} in {place} {time}",
    "please call off my {thing}, we can not come {time}",
    "we will not need the {thing} {time} any more",
    "take {people} off the list for the {thing}",
    "something came up, so the {thing} {time} is not needed",
    "can you undo my order of a {thing} and pay me back",
)
_COMPLAINT: Final = (
    "the {thing} in {place} was {bad}",
    "nobody told us that the {thing} would be {bad}",
    "we paid for a {thing} and it was {bad}",
    "i am not happy with the {thing} {time}, it was {bad}",
    "the {thing} that you sold us was {bad}, do something about it",
    "how can a {thing} be so {bad}",
)
_QUESTION: Final = (
    "how much is a {thing} in {place} {time}",
    "does the {thing} include breakfast {time}",
    "where do i find the {thing} in {place}",
    "is the {thing} suitable for {people}",
    "what happens if the {thing} is late {time}",
    "can i still change the {thing} after i have paid",
)
_TEMPLATES: Final = dict(zip(CLASSES, (_BOOKING, _CANCELLATION, _COMPLAINT, _QUESTION), strict=True))
_BAD: Final = ("dirty", "far too loud", "two hours late", "smaller than promised", "cold and dark", "already taken")
_PEOPLE: Final = ("two people", "my parents", "four adults", "me and my son", "a group of ten", "one person")

# Clauses that belong to another class and must not mislead: what was, what will not be, what others do.
_ASIDES: Final = (
    "last year we had to cancel and that was easy",
    "the last time everything was fine",
    "i have already booked the flight",
    "my friends were not happy with theirs",
    "i do not want to cancel anything",
    "this is not a complaint",
    "we have not booked anything yet",
    "i know how much it costs",
    "my old booking number is {number}",
    "we stayed with you in {place} before",
)


def generate_intents(count: int, seed: int) -> list[tuple[str, str]]:
    """Generate different messages, no two the same up to case and spacing.

    The first n do not depend on how many are asked for.

    Args:
        count: How many; the grammar has millions.
        seed: Same seed, same messages, on every machine.

    Returns:
        Pairs of text and class, four to 30 words a text.
    """
    return list(islice(_distinct(seed), count))


def write_corpus(folder: Path, *, train: int, validation: int, test: int, seed: int) -> None:
    """Write a corpus as `train.csv`, `validation.csv` and `test.csv` with the columns `text` and `label`.

    Args:
        folder: Created when missing; files of these names in it are replaced.
        train: Number of training messages.
        validation: Number of validation messages.
        test: Number of test messages.
        seed: See `generate_intents`; no message stands in two splits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    messages = iter(generate_intents(train + validation + test, seed))
    for split, size in (("train", train), ("validation", validation), ("test", test)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("text", "label"))
            writer.writerows(islice(messages, size))


def _distinct(seed: int) -> Iterator[tuple[str, str]]:
    chance = random.Random(seed)  # noqa: S311 - a corpus, no secret
    seen: set[str] = set()
    while True:
        label = chance.choice(CLASSES)
        text = _message(chance, label)
        key = normalise(text)
        if key not in seen and len(text.split()) in _WORDS:
            seen.add(key)
            yield text, label


def _message(chance: random.Random, label: str) -> str:
    def fill(template: str) -> str:
        thing = chance.choice(_THINGS[chance.choice(list(_THINGS))])
        return template.format(
            thing=thing,
            place=chance.choice(_PLACES),
            time=chance.choice(_TIMES),
            bad=chance.choice(_BAD),
            people=chance.choice(_PEOPLE),
            number=chance.randint(1000, 99999),
        )

    parts = [fill(chance.choice(_TEMPLATES[label]))]
    if chance.random() < 0.6:
        parts.insert(chance.randint(0, 1), fill(chance.choice(_ASIDES)))
    text = chance.choice(_OPENINGS) + (", ".join(parts) if chance.random() < 0.5 else ". ".join(parts))
    return _typing(chance, text + chance.choice(_ENDINGS))


def _typing(chance: random.Random, text: str) -> str:
    """Type as people do: now and then without a letter, in capitals, or with a mark at the end."""
    styles: tuple[Callable[[str], str], ...] = (
        lambda typed: typed,
        lambda typed: typed,
        lambda typed: typed[0].upper() + typed[1:] + ".",
        lambda typed: typed + "!",
        lambda typed: typed.upper(),
        lambda typed: _without_letter(chance, typed),
    )
    return chance.choice(styles)(text)


def _without_letter(chance: random.Random, text: str) -> str:
    place = chance.randrange(1, len(text))
    return text[:place] + text[place + 1 :]
