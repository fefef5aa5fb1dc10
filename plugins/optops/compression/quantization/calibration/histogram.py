"""A tensor's histogram that grows its range as larger values come, in bounded memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.quantization.rounding import Range, with_zero

BINS = 8192
"""Bins on either side of zero: at least half of them span the largest value, four for each of the 2048 that the
divergence of Kullback and Leibler is computed on."""
CHUNK = 1 << 18
"""Values counted at a time, so that counting takes a few MiB however large a tensor is."""


class Histogram:
    """Counts values in bins whose width is a power of two; no value is kept.

    When a value lies beyond the range, the range doubles until it holds it and neighbouring bins merge. Since widths
    are powers of two and bins start at zero, merging is exact: the histogram depends only on the values, not on their
    order or in how many pieces they came. It takes 128 KiB, whatever it has seen.

    Args:
        name: Of the tensor, for messages.

    Attributes:
        name: As given.
        smallest: The smallest value seen.
        largest: The largest value seen.
        zeros: How many values were exactly zero.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.smallest, self.largest = 0.0, 0.0
        self.zeros = 0
        self._empty = True
        # Bins span [-2 ** exponent, 2 ** exponent); None as long as nothing but zeros came.
        self._exponent: int | None = None
        self._counts = np.zeros(2 * BINS, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Counts all elements of an array.

        Raises:
            ValueError: If one is not finite; names the tensor.
        """
        flat = np.asarray(values).reshape(-1)
        for start in range(0, len(flat), CHUNK):
            self._add(flat[start : start + CHUNK])

    def _add(self, values: NDArray[Any]) -> None:
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            count = int(np.count_nonzero(~np.isfinite(values)))
            raise ValueError(
                f"calibration: {count} of the values of tensor {self.name!r} are NaN or infinite; "
                "look for NaN in the model's weights and in the calibration inputs"
            )
        self.smallest = low if self._empty else min(self.smallest, low)
        self.largest = high if self._empty else max(self.largest, high)
        self._empty = False
        zeros = int(np.count_nonzero(values == 0))
        self.zeros += zeros
        if zeros == len(values):
            return
        self._make_room(max(-low, high))
        scale = np.ldexp(1.0, -self._width_exponent())
        # The product with a power of two is exact, so a value falls into the same bin whatever the width was before.
        places = np.floor(values.astype(np.float64) * scale).astype(np.int64) + BINS
        self._counts += np.bincount(places, minlength=2 * BINS)
        self._counts[BINS] -= zeros

    def _width_exponent(self) -> int:
        assert self._exponent is not None
        return self._exponent - (BINS.bit_length() - 1)

    def _make_room(self, magnitude: float) -> None:
        exponent = int(np.frexp(magnitude)[1])  # the smallest with magnitude < 2 ** exponent
        if self._exponent is None:
            self._exponent = exponent
        while self._exponent < exponent:
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.zeros_like(self._counts)
            self._counts[BINS // 2 : BINS + BINS // 2] = pairs
            self._exponent += 1

    @property
    def counts_without_zeros(self) -> NDArray[np.int64]:
        """How many values that are not zero fall into each bin, from the most negative on."""
        return self._counts

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many values fall into each bin, from the most negative on; zeros are in the first at or above zero."""
        counts = self._counts.copy()
        counts[BINS] += self.zeros
        return counts

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' edges, one more than bins."""
        places = np.arange(-BINS, BINS + 1, dtype=np.float64)
        return places if self._exponent is None else places * np.ldexp(1.0, self._width_exponent())

    @property
    def magnitude(self) -> float:
        """The largest |x| seen."""
        return max(-self.smallest, self.largest)

    def magnitudes(self, bins: int) -> NDArray[np.float64]:
        """Returns how many |x| fall into each of some bins that span 0 to the largest |x|.

        Bins of the histogram that straddle an edge are shared out by the part that lies on either side.
        """
        counts = self.counts
        running = np.concatenate([[0], np.cumsum(counts[BINS:] + counts[BINS - 1 :: -1])])
        wanted = np.linspace(0, self.magnitude, bins + 1)
        wanted[-1] = self.edges[-1]  # what shares a bin with the largest value belongs to the last
        return np.asarray(np.diff(np.interp(wanted, self.edges[BINS:], running)), np.float64)

    def clipped_at(self, threshold: float) -> Range:
        """Returns the range of what was seen, clipped to a threshold on |x|; it holds zero."""
        return with_zero(max(self.smallest, -threshold), min(self.largest, threshold))
