"""Labelled boxes: what they are, how they overlap, how people read them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """A labelled box, in pixels of its image as it is shown (after its EXIF rotation).

    Attributes:
        label: Name of the class.
        left: Left edge; 0 is the left edge of the image.
        top: Upper edge.
        right: Right edge, beyond `left`.
        bottom: Lower edge, beyond `top`.
        difficult: Whether finding it counts neither for nor against a detector (VOC `difficult`, COCO `iscrowd`).
        crowd: Whether it stands for many objects (COCO `iscrowd`).
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float
    difficult: bool = False
    crowd: bool = False

    @property
    def has_area(self) -> bool:
        """Whether anything can lie in it."""
        return self.right > self.left and self.bottom > self.top

    @property
    def to_be_found(self) -> bool:
        """Whether a detector is judged by finding it, if its class is known."""
        return self.has_area and not (self.difficult or self.crowd)

    def __str__(self) -> str:
        return f"{self.label} [{self.left:g}, {self.top:g}, {self.right:g}, {self.bottom:g}]"


def cut_at_edges(boxes: Sequence[Box], size: tuple[int, int]) -> list[Box]:
    """Returns what is left of boxes in an image of a width and height; of one beside it, a box without area."""
    width, height = size
    return [
        box._replace(
            left=min(max(box.left, 0), width),
            top=min(max(box.top, 0), height),
            right=min(max(box.right, 0), width),
            bottom=min(max(box.bottom, 0), height),
        )
        for box in boxes
    ]


def corners(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Returns left, top, right and bottom of boxes, shape [boxes, 4]."""
    return np.array([box[1:5] for box in boxes], np.float64).reshape(-1, 4)


def overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the intersection over union of all pairs of boxes (corners), shape [one, other]; 0 without area."""
    least, most = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    common: NDArray[np.float64] = np.prod(np.maximum(most - least, 0), axis=-1)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - common
    np.divide(common, union, out=common, where=union > 0)
    return common
