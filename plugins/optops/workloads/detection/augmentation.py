"""Varies training images and their boxes; everything random comes from the generator that is handed in."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.workloads.detection.letterbox import GREY
from optops.workloads.detection.settings import Augmentation

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST_LEFT = 0.25
"""Share of a box that must be left inside for it to stay a label."""
LEAST_SIDE = 2.0
"""Pixels of the network's input; what is smaller on a side is no label there."""

Floats = NDArray[np.float64]


def augment(
    pixels: NDArray[np.uint8], boxes: Floats, side: int, settings: Augmentation | None, random: np.random.Generator
) -> tuple[NDArray[np.uint8], Floats, NDArray[np.intp]]:
    """Returns a variant of an image in the square that the network sees.

    Args:
        pixels: uint8 [height, width, 3].
        boxes: Corners in its pixels, shape [boxes, 4].
        side: Of the square.
        settings: How far it goes; None only fits the image into the square.
        random: Decides.

    Returns:
        uint8 [side, side, 3], the boxes that are left, cut at the edges, and their places among those given.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    scale, flip = side / max(width, height), False
    offset = np.array([(side - width * scale) / 2, (side - height * scale) / 2])
    if settings is not None:
        larger = random.uniform(1 - settings.scale, 1 + settings.scale)
        shift = random.uniform(-settings.jitter, settings.jitter, 2) * side
        flip = bool(settings.flip and random.random() < 0.5)
        # Scaled about the middle of the square, then shifted.
        offset = (offset - side / 2) * larger + side / 2 + shift
        scale *= larger
    image = _place(Image.fromarray(pixels), side, scale, offset, flip)
    if settings is not None:
        image = _recolour(image, settings, random)
    moved = boxes * scale + np.tile(offset, 2)
    if flip:
        moved[:, [0, 2]] = side - moved[:, [2, 0]]
    inside = np.clip(moved, 0, side)
    left = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    whole = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
    kept = (left >= _LEAST_LEFT * whole) & (left > 0) & (inside[:, 2:] - inside[:, :2] >= LEAST_SIDE).all(axis=1)
    return np.asarray(image), inside[kept], np.nonzero(kept)[0]


def _place(image: "Image", side: int, scale: float, offset: Floats, flip: bool) -> "Image":
    from PIL import Image

    # What comes from where: the inverse of x -> x * scale + offset, mirrored or not.
    step = -1 / scale if flip else 1 / scale
    start = ((side if flip else 0) - offset[0]) / scale
    matrix = (step, 0, start, 0, 1 / scale, -offset[1] / scale)
    return image.transform(
        (side, side), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=GREY
    )


def _recolour(image: "Image", settings: Augmentation, random: np.random.Generator) -> "Image":
    """Turns the hue and multiplies saturation and brightness, as Darknet does."""
    from PIL import Image

    turn = random.uniform(-settings.hue, settings.hue)
    factors = [random.uniform(1, most) ** random.choice((-1, 1)) for most in (settings.saturation, settings.exposure)]
    levels = np.arange(256)
    tables = [(levels + round(256 * turn)) % 256, *(np.minimum(levels * factor, 255) for factor in factors)]
    channels = image.convert("HSV").split()
    changed = [channel.point(table.astype(np.uint8).tolist()) for channel, table in zip(channels, tables, strict=True)]
    return Image.merge("HSV", changed).convert("RGB")
