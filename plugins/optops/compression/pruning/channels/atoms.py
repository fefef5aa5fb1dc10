"""Channels as atoms: each place of a channel in the model is one, and atoms that must go together are tied."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Atoms = NDArray[np.int64]
"""Numbers of atoms, one for each channel along the last axis of a tensor, or along an axis of a weight."""


class Ties:
    """Which atoms are tied, and which must stay: a union-find over all channels of a model."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Atoms:
        """Returns new atoms, tied to none."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def tie(self, one: Atoms, other: Atoms) -> None:
        """Ties atoms place by place."""
        for left, right in zip(one.tolist(), other.tolist(), strict=True):
            first, second = self._root(left), self._root(right)
            if first != second:
                first, second = min(first, second), max(first, second)
                self._parents[second] = first
                if second in self._reasons:
                    self._reasons.setdefault(first, self._reasons.pop(second))

    def fix(self, atoms: Iterable[int], reason: str) -> None:
        """Says that atoms, and all that is tied to them, must stay, and why."""
        for atom in np.asarray(atoms).ravel().tolist():
            self._reasons.setdefault(self._root(atom), reason)

    def roots(self, atoms: Atoms) -> Atoms:
        """Returns for each atom the one that stands for all that are tied to it."""
        return np.array([self._root(atom) for atom in atoms.tolist()], np.int64)

    def reason(self, atom: int) -> str | None:
        """Returns why an atom must stay; None if it may go."""
        return self._reasons.get(self._root(atom))

    def __len__(self) -> int:
        return len(self._parents)

    def _root(self, atom: int) -> int:
        while (parent := self._parents[atom]) != atom:
            self._parents[atom] = atom = self._parents[parent]
        return atom
