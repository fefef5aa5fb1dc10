"""A parallel corpus of travel phrases, English and German, made by a grammar: as large as wanted, free to use.

It lets the pipeline be tried, tested and shown without any data set. The sentences are correct German (gender, case,
adjective endings, word order, separable verbs), and one English sentence nearly always has one German one, so that a
small Transformer can learn the task well and a damaged one visibly loses.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from optops.workloads.text_lines import normalise
from optops.workloads.translation.phrase_grammar import clause_templates, people_templates, travel_templates
from optops.workloads.translation.phrase_grammar.composer import Composer
from optops.workloads.translation.phrase_grammar.lexicon import load_lexicon

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATES: Final = (*clause_templates.TEMPLATES, *travel_templates.TEMPLATES, *people_templates.TEMPLATES)
_WORDS: Final = range(3, 26)


def generate_phrases(pairs: int, seed: int) -> list[tuple[str, str]]:
    """Generate different sentences in English and German.

    No two pairs share a source or a target, also not up to case and spacing. The first n pairs do not depend on how
    many are asked for.

    Args:
        pairs: How many; the grammar has many millions.
        seed: Same seed, same pairs, on every machine.

    Returns:
        Pairs of source (English) and target (German), three to 25 words a side.
    """
    return list(islice(_distinct_phrases(seed), pairs))


def write_corpus(folder: Path, *, train: int, validation: int, test: int, seed: int) -> None:
    """Write a corpus as line-aligned files `train.en`, `train.de`, `validation.en`, ..., `test.de`.

    Args:
        folder: Created when missing; files of these names in it are replaced.
        train: Number of training pairs.
        validation: Number of validation pairs.
        test: Number of test pairs.
        seed: See `generate_phrases`; no sentence of either language stands in two splits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    phrases = generate_phrases(train + validation + test, seed)
    start = 0
    for split, size in (("train", train), ("validation", validation), ("test", test)):
        part = phrases[start : start + size]
        start += size
        for side, language in enumerate(("en", "de")):
            lines = "".join(f"{pair[side]}\n" for pair in part)
            (folder / f"{split}.{language}").write_text(lines, encoding="utf-8", newline="\n")


def _distinct_phrases(seed: int) -> Iterator[tuple[str, str]]:
    composer = Composer(load_lexicon(), seed)
    templates = [template for weight, template in _TEMPLATES for _ in range(weight)]
    seen: set[str] = set()
    while True:
        pair = composer.choose(templates)(composer)
        # One set for both languages is enough: no sentence is the same in both.
        keys = {normalise(side) for side in pair}
        if seen.isdisjoint(keys) and all(len(side.split()) in _WORDS for side in pair):
            seen |= keys
            yield pair
