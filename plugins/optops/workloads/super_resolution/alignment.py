"""Whether a low-resolution image shows what its large one shows, and in the same place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.workloads.super_resolution.quality import LARGEST_PSNR, luma
from optops.workloads.super_resolution.resizing import resize

SIDE = 192
"""Of the part in the middle of the low-resolution image that is looked at, in pixels."""

AROUND = 64
"""How many of its pixels around that part the large image is looked at."""

GOOD_MATCH = 40.0
"""In dB: from here on a pair is not searched for a better place."""

LEAST_GAIN = 2.0
"""How many times smaller the squared error must be at another place for that to be the better one."""


@dataclass(frozen=True)
class Alignment:
    """How a pair fits.

    Attributes:
        match: PSNR in dB of the low-resolution luma against the resized large one, at the best place.
        down: How far the large image is to be moved for that, in its pixels.
        right: Likewise.
    """

    match: float
    down: int = 0
    right: int = 0


def align(low: NDArray[np.uint8], high: NDArray[np.uint8], scale: int) -> Alignment:
    """Returns how a low-resolution image fits its large one.

    The place is found by phase correlation (Kuglin & Hines 1975) in whole pixels of the small image, then by trying all
    places within a pixel around it. One that is not clearly better than none does not count.

    Args:
        low: [height, width] or [height, width, 3].
        high: At least `scale` times as large.
        scale: How many times as large.
    """
    ours = luma(_middle(low, SIDE))
    whole = luma(_middle(high[: low.shape[0] * scale, : low.shape[1] * scale], (SIDE + 2 * AROUND) * scale, scale))
    still = _error(ours, _resized(whole, scale))
    if _decibels(still) >= GOOD_MATCH:
        return Alignment(_decibels(still))
    coarse = _phase_shift(ours, _middle(_resized(whole, scale), SIDE))
    best, place = still, (0, 0)
    for down in range(coarse[0] * scale - scale, coarse[0] * scale + scale + 1):
        for right in range(coarse[1] * scale - scale, coarse[1] * scale + scale + 1):
            error = _error(ours, _resized(whole, scale, (down, right)))
            if error < best:
                best, place = error, (down, right)
    if place == (0, 0) or best * LEAST_GAIN > still:
        return Alignment(_decibels(still))
    return Alignment(_decibels(best), *place)


def _resized(high: NDArray[np.float64], scale: int, shift: tuple[int, int] = (0, 0)) -> NDArray[np.float64]:
    return resize(high, high.shape[0] // scale, high.shape[1] // scale, 1 / scale, shift)


def _error(ours: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Returns the mean squared error in the middle, without the border, which resizers treat differently."""
    theirs = _middle(whole, SIDE)
    border = min(4, (min(ours.shape) - 1) // 2)
    inner = (slice(border, ours.shape[0] - border), slice(border, ours.shape[1] - border))
    return float(np.mean((ours[inner] - theirs[inner]) ** 2))


def _decibels(error: float) -> float:
    return LARGEST_PSNR if error == 0 else min(LARGEST_PSNR, 10 * float(np.log10(255**2 / error)))


def _middle(values: NDArray[Any], side: int, multiple: int = 1) -> NDArray[Any]:
    """Returns the square in the middle, or all there is; it starts at a multiple, so that small and large agree."""
    top, left = (max(0, (size - side) // multiple // 2 * multiple) for size in values.shape[:2])
    return values[top : top + side, left : left + side]


def _phase_shift(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[int, int]:
    """Returns where the second image is to be looked at, in whole pixels, to see what the first one shows."""
    window = np.outer(np.hanning(ours.shape[0] + 2)[1:-1], np.hanning(ours.shape[1] + 2)[1:-1])
    one, other = (np.fft.rfft2((values - values.mean()) * window) for values in (ours, theirs))
    cross = other * np.conj(one)
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=ours.shape)
    down, right = (int(place) for place in np.unravel_index(int(np.argmax(peaks)), peaks.shape))
    height, width = ours.shape
    return down - height * (down > height // 2), right - width * (right > width // 2)
