"""Bicubic resizing as MATLAB's `imresize` does it, which all published figures of super-resolution rest on."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

SUPPORT = 4.0
"""Width of the cubic kernel, in pixels."""


def resize(
    image: NDArray[Any], height: int, width: int, factor: float, shift: tuple[int, int] = (0, 0)
) -> NDArray[np.float64]:
    """Returns an image resized by the cubic kernel with a = -0.5, wider where it shrinks, edges mirrored.

    Args:
        image: Any numbers, [height, width] or [height, width, channels].
        height: Of the result, in pixels.
        width: Likewise.
        factor: Size of the result's pixels against the image's: 2 doubles, 0.5 halves.
        shift: Moves what is looked at, in the image's pixels, down and right.

    Returns:
        The same number of dimensions, neither rounded nor clipped.

    Source: Keys 1981, equation 15; MATLAB's documentation of `imresize`, method `bicubic` with antialiasing.
    """
    rows = _resize_axis(np.asarray(image, np.float64), 0, height, factor, shift[0])
    return _resize_axis(rows, 1, width, factor, shift[1])


def shrink(image: NDArray[np.uint8], scale: int, shift: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """Returns the low-resolution form of an image, to the bit as MATLAB makes it; edges as `resize`.

    What is beyond a multiple of the scale is left out. MATLAB rounds bytes after each axis, the rows first.

    Args:
        image: [height, width] or [height, width, 3].
        scale: How many times as large the image is.
        shift: See `resize`.
    """
    if image.ndim == 3:
        # A channel at a time: in float64 all of them take eight times the image.
        channels = [shrink(image[..., channel], scale, shift) for channel in range(image.shape[2])]
        return np.stack(channels, axis=-1)
    height, width = image.shape[0] // scale, image.shape[1] // scale
    whole = image[: height * scale, : width * scale].astype(np.float64)
    rows = to_bytes(_resize_axis(whole, 0, height, 1 / scale, shift[0]))
    return to_bytes(_resize_axis(rows.astype(np.float64), 1, width, 1 / scale, shift[1]))


def enlarge(image: NDArray[Any], scale: int) -> NDArray[np.float64]:
    """Returns an image `scale` times as large, neither rounded nor clipped."""
    return resize(image, image.shape[0] * scale, image.shape[1] * scale, scale)


def to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns numbers rounded and clipped to 0 to 255, halves away from zero as MATLAB rounds."""
    rounded: NDArray[np.uint8] = np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return rounded


def _resize_axis(values: NDArray[np.float64], axis: int, wanted: int, factor: float, shift: int) -> NDArray[np.float64]:
    first = np.moveaxis(values, axis, 0)
    weights = _weights(len(first), wanted, factor, shift)
    resized: NDArray[np.float64] = (weights @ first.reshape(len(first), -1)).reshape(wanted, *first.shape[1:])
    return np.moveaxis(resized, 0, axis)


@lru_cache(maxsize=64)
def _weights(length: int, wanted: int, factor: float, shift: int) -> csr_array:
    """Returns the matrix [wanted, length] that resizes one axis."""
    shrinking = min(factor, 1.0)
    places = (np.arange(wanted) + 0.5) / factor - 0.5 + shift
    reach = SUPPORT / shrinking
    first = np.floor(places - reach / 2).astype(np.int64)
    taps = first[:, None] + np.arange(int(np.ceil(reach)) + 2)
    weights = _cubic((places[:, None] - taps) * shrinking)
    weights /= weights.sum(axis=1, keepdims=True)
    # Beyond the edge the image is mirrored, again and again if it is small.
    period = np.mod(taps, 2 * length)
    columns = np.minimum(period, 2 * length - 1 - period)
    rows = np.repeat(np.arange(wanted), taps.shape[1])
    return csr_array((weights.ravel(), (rows, columns.ravel())), shape=(wanted, length))


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
