"""Batches of arrays, shuffled by seed and epoch."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ArrayBatches:
    """Gives the batches of an epoch; the same ones for the same epoch.

    Attributes:
        arrays: Inputs and labels by name, each [examples, ...].
        size: Examples in a batch.
        seed: Of the order.
    """

    arrays: Mapping[str, np.ndarray]
    size: int
    seed: int

    def __call__(self, epoch: int) -> "Epoch":
        """Returns the batches of an epoch, from 1."""
        count = len(next(iter(self.arrays.values())))
        order = np.random.default_rng([self.seed, epoch]).permutation(count)
        return Epoch(self.arrays, self.size, order)


@dataclass(frozen=True)
class Epoch:
    """The batches of one epoch."""

    arrays: Mapping[str, np.ndarray]
    size: int
    order: np.ndarray

    def __len__(self) -> int:
        """Returns the number of batches."""
        return math.ceil(len(self.order) / self.size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Makes the batches, in order."""
        for start in range(0, len(self.order), self.size):
            rows = self.order[start : start + self.size]
            yield {name: array[rows] for name, array in self.arrays.items()}
