"""Procedural textures: noise, stripes, shapes and strokes with sharp edges; as many images as wanted, free to use.

They let the pipeline be tried, tested and shown without any data set. Sharp edges and fine lines are what bicubic
resizing blurs, so that a small network learns to do visibly better, and a damaged one visibly loses.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optops.workloads.super_resolution.resizing import to_bytes

Image = NDArray[np.float64]

SIDE: Final = 128
"""Height and width of an image, in pixels."""

FINE: Final = 3
"""Points along each side of a pixel, whose mean it is: that makes edges sharp, but not jagged."""


def write_textures(folder: Path, *, train: int, validation: int, test: int, seed: int, side: int = SIDE) -> None:
    """Writes the folders `train`, `validation` and `test` of PNG files, all images different.

    Args:
        folder: Made if need be; files of the same names are replaced.
        train: Number of training images.
        validation: Number of validation images.
        test: Number of test images.
        seed: Same seed, same images.
        side: Height and width of an image, in pixels.
    """
    from PIL import Image as Images

    number = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            image = Images.fromarray(draw_texture(np.random.default_rng([seed, number]), side))
            image.save(folder / split / f"texture_{number:04d}.png")
            number += 1


def draw_texture(random: np.random.Generator, side: int = SIDE) -> NDArray[np.uint8]:
    """Returns an image of several layers, uint8 RGB [side, side, 3]."""
    fine = side * FINE
    image = _blend(_colour(random), _colour(random), fractal_noise(random, fine))
    for _ in range(int(random.integers(2, 5))):
        mask = LAYERS[int(random.integers(len(LAYERS)))](random, fine)
        ink = _blend(_colour(random), _colour(random), fractal_noise(random, fine))
        image = image * (1 - mask[..., None]) + ink * mask[..., None]
    return to_bytes(255 * image.reshape(side, FINE, side, FINE, 3).mean(axis=(1, 3)))


def fractal_noise(random: np.random.Generator, side: int) -> Image:
    """Returns noise whose amplitude falls with a power of the frequency, 0 to 1, as that of natural surfaces does."""
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequencies[0, 0] = 1
    phases = np.exp(2j * np.pi * random.random(frequencies.shape))
    spectrum = phases * frequencies ** -random.uniform(1.6, 2.4)
    spectrum[0, 0] = 0
    values: Image = np.fft.irfft2(spectrum, s=(side, side))
    values -= values.min()
    return values / max(float(values.max()), 1e-12)


def stripes(random: np.random.Generator, side: int) -> Image:
    """Returns parallel stripes of any direction, in a part of the image: 0 or 1."""
    down, right = _grid(side)
    angle, period = random.uniform(0, np.pi), FINE * random.uniform(3, 16)
    phase = (np.cos(angle) * down + np.sin(angle) * right) / period + random.random()
    mask: Image = (np.mod(phase, 1) < random.uniform(0.3, 0.7)) * _disc(random, side, 0.2, 0.5)
    return mask


def shapes(random: np.random.Generator, side: int) -> Image:
    """Returns discs, rings and polygons with straight sides: 0 or 1."""
    mask = np.zeros((side, side))
    for _ in range(int(random.integers(2, 7))):
        kind = random.integers(3)
        if kind == 0:
            shape = _disc(random, side, 0.04, 0.2)
        elif kind == 1:
            shape = _disc(random, side, 0.04, 0.2, ring=True)
        else:
            shape = _polygon(random, side)
        mask = np.maximum(mask, shape)
    return mask


def strokes(random: np.random.Generator, side: int) -> Image:
    """Returns lines of signs, each made of straight strokes between the points of a grid, like writing: 0 or 1."""
    mask = np.zeros((side, side))
    height = FINE * int(random.integers(8, 20))
    width, thick = height * 2 // 3, max(FINE, height // 8)
    top = int(random.integers(height))
    for row in range(top, side - height, height * 3 // 2):
        for column in range(int(random.integers(width)), side - width, width * 4 // 3):
            if random.random() < 0.85:
                sign = _sign(random, height, width, thick)
                mask[row : row + height, column : column + width] = sign
    return mask


LAYERS: Final = (stripes, shapes, strokes)


def _sign(random: np.random.Generator, height: int, width: int, thick: int) -> Image:
    down, right = np.mgrid[:height, :width].astype(np.float64)
    sign = np.zeros((height, width))
    margin = thick / 2
    for _ in range(int(random.integers(2, 5))):
        ends = random.integers(0, 3, (2, 2)) / 2
        (y0, x0), (y1, x1) = margin + ends * (np.array([height, width]) - 1 - thick)
        length = max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-9)
        along = np.clip(((down - y0) * (y1 - y0) + (right - x0) * (x1 - x0)) / length, 0, 1)
        distance = np.hypot(down - y0 - along * (y1 - y0), right - x0 - along * (x1 - x0))
        sign = np.maximum(sign, distance <= thick / 2)
    return sign


def _disc(random: np.random.Generator, side: int, least: float, most: float, ring: bool = False) -> Image:
    down, right = _grid(side)
    middle, radius = random.uniform(0, side, 2), side * random.uniform(least, most)
    distance = np.hypot(down - middle[0], right - middle[1])
    inside: Image = (distance < radius).astype(np.float64)
    return inside * (distance > radius * random.uniform(0.6, 0.9)) if ring else inside


def _polygon(random: np.random.Generator, side: int) -> Image:
    """Returns a convex polygon: what lies on one side of several lines around a point."""
    down, right = _grid(side)
    middle, radius = random.uniform(0, side, 2), side * random.uniform(0.06, 0.25)
    mask = np.ones((side, side))
    sides, turn = int(random.integers(3, 7)), random.uniform(0, 2 * np.pi)
    for number in range(sides):
        angle = turn + 2 * np.pi * number / sides
        mask *= np.cos(angle) * (down - middle[0]) + np.sin(angle) * (right - middle[1]) < radius
    return mask


def _grid(side: int) -> tuple[Image, Image]:
    down, right = np.mgrid[:side, :side].astype(np.float64)
    return down, right


def _colour(random: np.random.Generator) -> NDArray[np.float64]:
    return random.random(3)


def _blend(one: NDArray[np.float64], other: NDArray[np.float64], share: Image) -> Image:
    blended: Image = one + (other - one) * share[..., None]
    return blended
