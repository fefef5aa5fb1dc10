"""What somebody probably meant: the nearest of the words that there are."""

from collections.abc import Iterable

LARGEST_SHARE = 0.5
"""A word that needs more of its letters changed than this was not meant."""


def hint(word: str, known: Iterable[str]) -> str:
    """Returns `did you mean 'gate'?`, or all known words if none is near."""
    words = list(known)
    near = nearest(word, words)
    return f"did you mean {near!r}?" if near else f"known are {', '.join(words)}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is the fewest edits away, or None if none is near."""
    # Words of very different lengths are no misspellings of each other: a whole text is compared with none.
    distances = {
        other: edits(word, other)
        for other in known
        if abs(len(word) - len(other)) <= LARGEST_SHARE * max(len(word), len(other))
    }
    best = min(distances, key=distances.__getitem__, default=None)
    return best if best is not None and distances[best] <= LARGEST_SHARE * max(len(word), len(best)) else None


def edits(one: str, other: str) -> int:
    """Returns how many letters must be inserted, removed or replaced (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != wanted))
    return row[-1]
