"""Raw heads to boxes, in numpy and the same for every runtime: decoding, then suppression class by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optops.models.yolo.network import BOX_VALUES
from optops.models.yolo.targets import scale_anchors

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: Corners in pixels of the network's input, float32 [boxes, 4].
        labels: Number of each box's class.
        scores: Objectness times class probability, 0 to 1.
    """

    boxes: Floats
    labels: NDArray[np.intp]
    scores: Floats


@dataclass(frozen=True)
class Suppression:
    """Which boxes are kept.

    Attributes:
        score_threshold: Least score.
        overlap: Of two boxes of a class that overlap by more (IoU), the better one is kept.
        most: Most boxes of an image.
    """

    score_threshold: float
    overlap: float
    most: int


def decode(heads: Sequence[NDArray[np.floating]], anchors: Floats, side: int) -> tuple[Floats, Floats]:
    """Returns boxes and scores of all cells and anchors (Redmon & Farhadi 2018, section 2.1).

    Args:
        heads: Raw heads of the scales in any order, [images, cells, cells, anchors * (5 + classes)].
        anchors: Smallest first, shape [anchors, 2], pixels of the input.
        side: Of the input, pixels.

    Returns:
        Corners in pixels of the input, [images, boxes, 4], and scores by class, [images, boxes, classes].
    """
    boxes, scores = [], []
    for head, own in zip(sorted(heads, key=lambda head: head.shape[1]), scale_anchors(anchors), strict=True):
        cells, count = head.shape[1], len(own)
        values = np.asarray(head, np.float32).reshape(len(head), cells, cells, count, -1)
        steps = np.arange(cells, dtype=np.float32)
        corner = np.stack(np.meshgrid(steps, steps), axis=-1)[None, :, :, None]
        centre = (_sigmoid(values[..., :2]) + corner) * np.float32(side / cells)
        half = np.exp(np.clip(values[..., 2:4], -20, 20)) * own.astype(np.float32) / 2
        boxes.append(np.concatenate([centre - half, centre + half], axis=-1).reshape(len(head), -1, 4))
        probability = _sigmoid(values[..., 4:5]) * _sigmoid(values[..., BOX_VALUES:])
        scores.append(probability.reshape(len(head), boxes[-1].shape[1], -1))
    return np.concatenate(boxes, axis=1), np.concatenate(scores, axis=1)


def suppress(boxes: Floats, scores: Floats, settings: Suppression) -> Detections:
    """Returns the boxes of one image that are kept, class by class; NaN scores are none.

    Args:
        boxes: Corners, shape [boxes, 4].
        scores: By class, shape [boxes, classes].
        settings: Which are kept.
    """
    places, labels = np.nonzero(scores >= settings.score_threshold)
    found = scores[places, labels]
    order = np.argsort(-found, kind="stable")
    # What comes after so many better ones can not be among the best even if most of those are suppressed.
    order = order[: 20 * settings.most]
    places, labels, found = places[order], labels[order], found[order]
    kept = _suppress_sorted(boxes[places], labels, settings)
    return Detections(boxes[places[kept]], labels[kept], found[kept])


def _suppress_sorted(boxes: Floats, labels: NDArray[np.intp], settings: Suppression) -> list[int]:
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    waiting = np.arange(len(boxes))
    kept: list[int] = []
    while len(waiting) and len(kept) < settings.most:
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        least = np.maximum(boxes[best, :2], boxes[waiting, :2])
        most = np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        common = np.prod(np.maximum(most - least, 0), axis=1)
        # Compared without a division, which boxes without area would not stand.
        over = common > settings.overlap * (areas[best] + areas[waiting] - common)
        waiting = waiting[~(over & (labels[waiting] == labels[best]))]
    return kept


def _sigmoid(values: Floats) -> Floats:
    # By tanh, which neither overflows nor warns.
    half: Floats = np.tanh(values / np.float32(2))
    return (half + np.float32(1)) / np.float32(2)
