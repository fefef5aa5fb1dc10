"""Anchors by k-means over the sides of training boxes, with 1 - IoU for distance (Redmon & Farhadi 2017, section 2)."""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 300


def shape_overlaps(sides: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the IoU of boxes and anchors that share a corner, shape [boxes, anchors].

    Args:
        sides: Width and height of each box, shape [boxes, 2].
        anchors: The same of each anchor, shape [anchors, 2].
    """
    common: NDArray[np.float64] = np.minimum(sides[:, None], anchors[None]).prod(axis=-1)
    union = sides.prod(axis=-1)[:, None] + anchors.prod(axis=-1)[None] - common
    np.divide(common, union, out=common, where=union > 0)
    return common


def cluster_anchors(sides: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float32]:
    """Returns anchors, smallest area first, float32 [count, 2].

    Args:
        sides: Width and height of the training boxes in pixels of the network's input, shape [boxes, 2].
        count: How many.
        seed: Of the first centres, which are drawn far from each other (k-means++, Arthur & Vassilvitskii 2007).

    Raises:
        ValueError: If there is no box with an area.
    """
    sides = sides[(sides > 0).all(axis=1)]
    if not len(sides):
        raise ValueError("there is no training box with an area, so nothing to cluster anchors from; label some images")
    centres = _first_centres(sides, count, np.random.default_rng(seed))
    nearest = np.full(len(sides), -1)
    for _ in range(_ROUNDS):
        again = shape_overlaps(sides, centres).argmax(axis=1)
        if (again == nearest).all():
            break
        nearest = again
        for index in range(count):
            if (nearest == index).any():
                centres[index] = np.median(sides[nearest == index], axis=0)
    return centres[np.lexsort((centres[:, 0], centres.prod(axis=1)))].astype(np.float32)


def _first_centres(sides: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = sides[random.integers(len(sides))][None]
    while len(centres) < count:
        distance = (1 - shape_overlaps(sides, centres).max(axis=1)) ** 2
        if distance.sum() <= 0:
            # Fewer shapes than anchors: the rest stand around those there are.
            centres = np.concatenate([centres, sides[random.integers(len(sides))][None] * random.uniform(0.5, 1.5, 2)])
            continue
        centres = np.concatenate([centres, sides[random.choice(len(sides), p=distance / distance.sum())][None]])
    return centres
