"""Places text labels beside the points of a figure so that none covers another, a marker or the frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

RINGS_POINTS = (5, 9, 15, 23, 33, 45, 60, 78, 100, 126)
ANGLES = np.deg2rad(np.arange(0, 360, 15))
MARKER_RADIUS_POINTS = 6.0
PADDING_POINTS = 1.5
LEADER_FROM_POINTS = 8.0
# What a label pays per square pixel it covers, beside one per pixel of its distance.
COVERS_LABEL_OR_MARKER = 1000.0
COVERS_INTERVAL = 0.8
LEAVES_AXES = 1000.0

Boxes = NDArray[np.float64]  # (n, 4): left, bottom, right, top in pixels


@dataclass(frozen=True)
class Labelled:
    """A point with its label, in data coordinates; `low` and `high` are the ends of its intervals along x and y."""

    text: str
    x: float
    y: float
    low: tuple[float, float]
    high: tuple[float, float]
    bold: bool = False


def place_labels(axes: Any, points: Sequence[Labelled], *, font_size: float = 8.5) -> list[Any]:
    """Writes the labels, each at the cheapest of many places around its point: bold ones first, then crowded ones.

    The figure's layout is computed and then frozen, because a place is a place in pixels: call it last.

    Args:
        axes: matplotlib axes with everything else drawn and its limits set.
        points: what to label.
        font_size: in points.

    Returns:
        The annotations, in the order of the points.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    frame = np.array(axes.get_window_extent().extents)
    pixels = axes.transData.transform([(point.x, point.y) for point in points])
    texts = [
        axes.annotate(
            point.text,
            (point.x, point.y),
            fontsize=font_size,
            fontweight="bold" if point.bold else "normal",
            path_effects=[withStroke(linewidth=2.5, foreground="white", alpha=0.8)],
            zorder=5,
        )
        for point in points
    ]
    sizes = [np.array(text.get_window_extent().size) + 2 * PADDING_POINTS * scale for text in texts]
    taken = np.hstack([pixels - MARKER_RADIUS_POINTS * scale, pixels + MARKER_RADIUS_POINTS * scale])
    intervals = _interval_boxes(axes, points)
    for index in sorted(_most_crowded_first(pixels), key=lambda index: not points[index].bold):
        boxes = _places(pixels[index], sizes[index], scale)
        cost = COVERS_LABEL_OR_MARKER * _overlap(boxes, taken) + COVERS_INTERVAL * _overlap(boxes, intervals)
        cost += LEAVES_AXES * _outside(boxes, frame) + _distances(boxes, pixels[index])
        best = boxes[int(np.argmin(cost))]
        taken = np.vstack([taken, best])
        _move(texts[index], best, pixels[index], scale)
    return texts


def _places(point: NDArray[np.float64], size: NDArray[np.float64], scale: float) -> Boxes:
    rings = (np.array(RINGS_POINTS) * scale)[:, None]
    centers = np.stack(
        [np.cos(ANGLES) * (rings + size[0] / 2), np.sin(ANGLES) * (rings + size[1] / 2)], axis=-1
    ).reshape(-1, 2)
    return np.hstack([point + centers - size / 2, point + centers + size / 2])


def _interval_boxes(axes: Any, points: Sequence[Labelled]) -> Boxes:
    corners = [
        axes.transData.transform(ends)
        for point in points
        for ends in (
            ((point.low[0], point.y), (point.high[0], point.y)),
            ((point.x, point.low[1]), (point.x, point.high[1])),
        )
    ]
    return np.array([[*(ends[0] - 1), *(ends[1] + 1)] for ends in corners])


def _most_crowded_first(pixels: NDArray[np.float64]) -> NDArray[np.intp]:
    distances = np.hypot(*(pixels[:, None] - pixels[None]).transpose(2, 0, 1))
    return np.argsort(np.sort(distances, axis=1)[:, 1:4].sum(axis=1), kind="stable")


def _overlap(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Area that each box shares with all the others together, (boxes,)."""
    lower = np.maximum(boxes[:, None, :2], others[None, :, :2])
    upper = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    area: NDArray[np.float64] = np.clip(upper - lower, 0, None).prod(axis=2).sum(axis=1)
    return area


def _outside(boxes: Boxes, frame: NDArray[np.float64]) -> NDArray[np.float64]:
    total = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(total - _overlap(boxes, frame[None]), dtype=np.float64)


def _distances(boxes: Boxes, point: NDArray[np.float64]) -> NDArray[np.float64]:
    nearest = np.clip(point, boxes[:, :2], boxes[:, 2:])
    return np.asarray(np.hypot(*(nearest - point).T), dtype=np.float64)


def _move(text: Any, box: NDArray[np.float64], point: NDArray[np.float64], scale: float) -> None:
    text.set_anncoords("offset points")
    text.set_position((box[:2] - point) / scale + PADDING_POINTS)
    text.set_verticalalignment("bottom")
    if _distances(box[None], point)[0] > LEADER_FROM_POINTS * scale:
        corner = np.clip(point, box[:2], box[2:])
        text.axes.annotate(
            "",
            xy=text.xy,
            xytext=(corner - point) / scale,
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "0.55", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4},
            zorder=2,
        )
