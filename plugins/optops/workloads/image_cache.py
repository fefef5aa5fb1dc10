"""Decoded images in memory, up to a bound; what is beyond it is decoded anew each time."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES = 1 << 30


class ImageCache:
    """Gives images by their number; may be asked from several threads.

    Args:
        decode: Returns the pixels of an image, uint8.
        most_bytes: Of decoded images that are kept.
    """

    def __init__(self, decode: Callable[[int], NDArray[np.uint8]], most_bytes: int = CACHE_BYTES) -> None:
        self._decode, self._free = decode, most_bytes
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._lock = Lock()

    def __call__(self, number: int) -> NDArray[np.uint8]:
        """Returns the pixels of an image; they are not to be changed."""
        if number in self._kept:
            return self._kept[number]
        pixels = self._decode(number)
        with self._lock:
            if number not in self._kept and pixels.nbytes <= self._free:
                self._free -= pixels.nbytes
                self._kept[number] = pixels
        return pixels

    def all(self, numbers: Iterable[int]) -> list[NDArray[np.uint8]]:
        """Returns the pixels of several images, decoded side by side on all cores if they are not kept."""
        wanted = list(numbers)
        if all(number in self._kept for number in wanted):
            return [self._kept[number] for number in wanted]
        threads = len(os.sched_getaffinity(0))
        # A part for each thread: tasks of one small image each take longer to hand out than to do.
        parts = [wanted[place::threads] for place in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            decoded = [iter(part) for part in pool.map(lambda part: [self(number) for number in part], parts)]
        return [next(decoded[place % threads]) for place in range(len(wanted))]
