"""What the heads of YOLOv3 should say of an image: each box belongs to one cell and one anchor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.yolo.anchors import shape_overlaps
from optops.models.yolo.network import STRIDES

TARGET_VALUES = 6
"""Before the classes: x and y within the cell, logarithms of width and height over the anchor's, objectness, weight."""


def scale_anchors(anchors: Any) -> list[Any]:
    """Returns the anchors of each scale, coarsest first: the largest belong to the coarsest.

    Args:
        anchors: Smallest first, an array or a tensor of shape [anchors, 2].
    """
    each = int(anchors.shape[0]) // len(STRIDES)
    return [anchors[index * each : (index + 1) * each] for index in reversed(range(len(STRIDES)))]


def make_targets(
    boxes: NDArray[np.float64], labels: NDArray[np.intp], anchors: NDArray[np.float32], side: int, classes: int
) -> list[NDArray[np.float32]]:
    """Returns the target of each scale, float32 [side / stride, side / stride, anchors, 6 + classes].

    A box belongs to the anchor that overlaps most with it in shape, in the cell of its centre (Redmon & Farhadi 2018,
    section 2.1). Its weight is 2 - w * h, sides as shares of the input, so that small boxes count as in Darknet. Of
    two boxes that meet in a cell and anchor, the smaller stays.

    Args:
        boxes: Corners in pixels of the input, shape [boxes, 4]; within it.
        labels: Number of each box's class.
        anchors: Smallest first, shape [anchors, 2], pixels of the input.
        side: Of the input, pixels.
        classes: Number of classes.
    """
    by_scale = scale_anchors(anchors)
    each = len(by_scale[0])
    targets = [
        np.zeros((side // stride, side // stride, each, TARGET_VALUES + classes), np.float32) for stride in STRIDES
    ]
    sides = boxes[:, 2:] - boxes[:, :2]
    best = shape_overlaps(sides, anchors.astype(np.float64)).argmax(axis=1)
    for index in np.argsort(-sides.prod(axis=1), kind="stable"):
        scale = len(STRIDES) - 1 - best[index] // each
        anchor, stride = best[index] % each, STRIDES[scale]
        centre = (boxes[index, :2] + boxes[index, 2:]) / 2 / stride
        column, row = np.minimum(centre.astype(int), side // stride - 1)
        target = targets[scale][row, column, anchor]
        target[:] = 0
        target[:2] = centre - (column, row)
        target[2:4] = np.log(sides[index] / by_scale[scale][anchor])
        target[4], target[5] = 1, 2 - sides[index].prod() / side**2
        target[TARGET_VALUES + labels[index]] = 1
    return targets
