"""Drawn shapes, a class each: as many images as wanted, free to use."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 32
SHAPES: Final = ("cross", "disc", "ring", "square", "triangle")
FINE: Final = 3
"""Points along each side of a pixel, whose mean it is."""


def write_shapes(folder: Path, *, train: int, validation: int, test: int, seed: int) -> None:
    """Writes `train`, `validation` and `test`, each with a folder of PNG files for each shape.

    Args:
        folder: Made if need be; files of the same names are replaced.
        train: Number of training images, spread evenly over the shapes.
        validation: Number of validation images.
        test: Number of test images.
        seed: Same seed, same images.
    """
    from PIL import Image

    number = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        for place in range(count):
            shape = SHAPES[place % len(SHAPES)]
            (folder / split / shape).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(draw_shape(shape, np.random.default_rng([seed, number])))
            image.save(folder / split / shape / f"{shape}_{number:05d}.png")
            number += 1


def draw_shape(shape: str, random: np.random.Generator, side: int = SIDE) -> NDArray[np.uint8]:
    """Returns a turned shape of a dark colour on a light one, with noise, uint8 RGB [side, side, 3]."""
    fine = side * FINE
    down, right = np.mgrid[:fine, :fine] / fine - 0.5 - random.uniform(-0.15, 0.15, (2, 1, 1))
    turn, size = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.32)
    x, y = (np.cos(turn) * right + np.sin(turn) * down) / size, (np.cos(turn) * down - np.sin(turn) * right) / size
    mask = _inside(shape, x, y).reshape(side, FINE, side, FINE).mean(axis=(1, 3))[..., None]
    paper, ink = random.uniform(0.55, 1, 3), random.uniform(0, 0.4, 3)
    image = paper * (1 - mask) + ink * mask + random.normal(0, 0.06, (side, side, 3))
    drawn: NDArray[np.uint8] = (255 * np.clip(image, 0, 1)).astype(np.uint8)
    return drawn


def _inside(shape: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    distance, wide, narrow = np.hypot(x, y), np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    inside: dict[str, NDArray[np.bool_]] = {
        "cross": (wide < 1) & (narrow < 0.3),
        "disc": distance < 1,
        "ring": (distance < 1) & (distance > 0.65),
        "square": wide < 0.85,
        "triangle": (y > -0.6) & (np.sqrt(3) * abs(x) + y < 1.2),
    }
    return inside[shape]
