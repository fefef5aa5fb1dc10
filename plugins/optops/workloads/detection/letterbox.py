"""Fits images into the square that a detector sees."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.workloads.images import pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = (128, 128, 128)
"""Around the image, as Darknet fills its letterbox."""


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Returns width and height of an image that fills a square in proportion; at least one pixel each."""
    share = side / max(size)
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def shrink(image: "Image", most: int) -> "Image":
    """Returns an upright image in RGB whose longer side has at most so many pixels."""
    from PIL import Image

    # Of what is given, as `out_of_letterbox` knows it: made smaller first, a flat image would be rounded otherwise.
    size = fitted(image.size, most) if max(image.size) > most else image.size
    # Large images are made smaller in their own mode first: converting them takes several times their memory.
    if max(image.size) >= 4 * most and image.mode in ("L", "RGB", "CMYK", "RGBA"):
        image = image.reduce(max(image.size) // (2 * most))
    image = Image.fromarray(pixels_of(image, "RGB"))
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def letterbox(image: "Image", side: int) -> NDArray[np.uint8]:
    """Returns an image fitted into a square in proportion, in the middle, on grey; uint8 [side, side, 3]."""
    from PIL import Image

    square = Image.new("RGB", (side, side), GREY)
    small = shrink(image, side)
    width, height = fitted(image.size, side)
    if small.size != (width, height):
        small = small.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(small, ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)


def out_of_letterbox(boxes: NDArray[np.float32], size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Returns boxes (corners, pixels of the square) in pixels of the image, cut at its edges."""
    width, height = fitted(size, side)
    offset = np.array([(side - width) // 2, (side - height) // 2] * 2, boxes.dtype)
    scale = np.array([size[0] / width, size[1] / height] * 2, boxes.dtype)
    placed: NDArray[np.float32] = np.clip((boxes - offset) * scale, 0, np.array([*size, *size], boxes.dtype))
    return placed
