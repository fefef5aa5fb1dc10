"""Calls of an executable that stand for what it will be asked: for timing and for calibration."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from optops.models.super_resolution import INPUT
from optops.workloads.super_resolution.loading import Example, load_low
from optops.workloads.super_resolution.quality import luma

CALLS = 4
SIDE = 128
"""Largest height and width of a call, in pixels: what networks for super-resolution are usually timed on."""

Call = dict[str, NDArray[np.float32]]


def representative_calls(examples: Sequence[Example], scale: int, batch: int, seed: int) -> list[Call]:
    """Returns calls of the sizes that the images have, from the smallest to the largest, at most `SIDE`.

    A call takes `batch` squares out of images, drawn by the seed; its side is that of the image it stands for.
    """
    random = np.random.default_rng(seed)
    few = [examples[number] for number in random.permutation(len(examples))[: CALLS * batch]]
    images = [luma(load_low(example, scale)) for example in few]
    sides = sorted(min(SIDE, *image.shape) for image in images)
    places = np.linspace(0, len(sides) - 1, CALLS).round().astype(int)
    return [_call(images, sides[place], batch, random) for place in places]


def calibration_calls(examples: Sequence[Example], scale: int) -> Iterator[Call]:
    """Gives the middle of each image, at most `SIDE` pixels high and wide; one image is in memory at a time."""
    for example in examples:
        image = luma(load_low(example, scale))
        top, left = (max(0, (size - SIDE) // 2) for size in image.shape)
        yield _inputs(image[None, top : top + SIDE, left : left + SIDE])


def _call(images: Sequence[NDArray[np.float64]], side: int, batch: int, random: np.random.Generator) -> Call:
    large = [image for image in images if min(image.shape) >= side]
    squares = []
    for _ in range(batch):
        image = large[int(random.integers(len(large)))]
        top, left = (int(random.integers(size - side + 1)) for size in image.shape)
        squares.append(image[top : top + side, left : left + side])
    return _inputs(np.stack(squares))


def _inputs(lumas: NDArray[np.float64]) -> Call:
    return {INPUT: (lumas[..., None] / 255).astype(np.float32)}
