"""What of labelled images is learnt: those that can be read, with the boxes of known classes that have an area."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.workloads.detection.boxes import Box, corners, cut_at_edges
from optops.workloads.images import ImageError, image_size

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TrainingImage:
    """An image to train on.

    Attributes:
        path: Where it is.
        size: Width and height in pixels.
        boxes: Corners as shares of its sides, [boxes, 4].
        labels: Numbers of the boxes' classes, [boxes].
    """

    path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float64]
    labels: NDArray[np.intp]

    def sides(self, side: int) -> NDArray[np.float64]:
        """Returns width and height of the boxes in pixels of a square that the image fills, [boxes, 2]."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]) * self.size * (side / max(self.size))


def training_images(examples: "pd.DataFrame", classes: Sequence[str]) -> list[TrainingImage]:
    """Returns the images that can be read, without their crowds and boxes without area or of unknown classes.

    Args:
        examples: Columns `image` and `boxes`.
        classes: Names, by number.
    """
    numbers = {name: index for index, name in enumerate(classes)}
    labelled = zip(examples["image"], examples["boxes"], strict=True)
    made = (_training_image(Path(image), boxes, numbers) for image, boxes in labelled)
    return [image for image in made if image is not None]


def _training_image(path: Path, boxes: Sequence[Box], numbers: dict[str, int]) -> TrainingImage | None:
    try:
        size = image_size(path)
    except (ImageError, OSError):
        return None
    known = [box for box in boxes if box.label in numbers and not box.crowd]
    usable = [box for box in cut_at_edges(known, size) if box.has_area]
    labels = np.array([numbers[box.label] for box in usable], np.intp)
    return TrainingImage(path, size, corners(usable) / np.array([*size, *size]), labels)
