"""Label checks of boxes, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from optops.workloads.class_checks import enumerate_classes, explain_unknown
from optops.workloads.detection.boxes import Box, corners, overlaps

_NAMED = 3


def find_malformed(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images whose annotation could not be read, as a whole or in part."""
    return _reasons(rows, [list(faults) for faults in rows["faults"]])


def find_no_area(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images with a box whose right edge is not beyond its left one, or whose lower is not beyond its upper."""
    return _per_box(rows, lambda box: "" if box.has_area else "has no area")


def find_unknown_class(rows: pd.DataFrame, classes: Sequence[str]) -> pd.Series[str]:
    """Name images with a box whose class is not in the list, with the nearest one if any is near."""
    unknown = {box.label for boxes in rows["boxes"] for box in boxes} - set(classes)
    told = explain_unknown(unknown, classes)
    return _per_box(rows, lambda box: f"is of a class that {told[box.label]}" if box.label in told else "")


def find_absent_class(rows: pd.DataFrame, classes: Sequence[str]) -> pd.Series[str]:
    """Name the first image of a split that has no box to be found of some class."""
    found = {box.label for boxes in rows["boxes"] for box in boxes if box.to_be_found}
    absent = [repr(name) for name in classes if name not in found]
    reasons = {rows.index[0]: f"the split has no box to be found of {enumerate_classes(absent)}"} if absent else {}
    return pd.Series(reasons, dtype=str)


def find_tiny(rows: pd.DataFrame, least: float) -> pd.Series[str]:
    """Name images with a box, of some area, that has a side of fewer than `least` pixels."""

    def judge(box: Box) -> str:
        width, height = box.right - box.left, box.bottom - box.top
        return f"has {width:g} x {height:g} pixels" if box.has_area and min(width, height) < least else ""

    return _per_box(rows, judge)


def find_outside(rows: pd.DataFrame, allowed: float) -> pd.Series[str]:
    """Name images with a box that stands over the image's edge by more than the allowed number of pixels."""
    found = []
    for boxes, width, height in zip(rows["boxes"], rows["real_width"], rows["real_height"], strict=True):
        over = [
            f"box {index}, {box}, is outside the image of {width} x {height}"
            for index, box in enumerate(boxes, start=1)
            if width and (min(box.left, box.top) < -allowed or _reach(box, width, height) > allowed)
        ]
        found.append(over)
    return _reasons(rows, found)


def find_doubled(rows: pd.DataFrame, most: float) -> pd.Series[str]:
    """Name images where two boxes of one class overlap by more than `most` (IoU)."""
    found = []
    for boxes in rows["boxes"]:
        common = overlaps(corners(boxes), corners(boxes))
        pairs = [
            f"box {j + 1}, {boxes[j]}, doubles box {i + 1}, {boxes[i]} (IoU {common[i, j]:.3f})"
            for i, j in zip(*(common > most).nonzero(), strict=True)
            if i < j and boxes[i].label == boxes[j].label and not (boxes[i].crowd or boxes[j].crowd)
        ]
        # Boxes without area overlap nothing, but can be the same all the same.
        pairs += [
            f"box {index + 1}, {box}, doubles an earlier box"
            for index, box in enumerate(boxes)
            if not box.has_area and box in boxes[:index]
        ]
        found.append(pairs)
    return _reasons(rows, found)


def _reach(box: Box, width: int, height: int) -> float:
    return max(box.right - width, box.bottom - height, box.left - width, box.top - height)


def _per_box(rows: pd.DataFrame, judge: Callable[[Box], str]) -> pd.Series[str]:
    found = []
    for boxes in rows["boxes"]:
        judged = [(index, box, judge(box)) for index, box in enumerate(boxes, start=1)]
        found.append([f"box {index}, {box}, {reason}" for index, box, reason in judged if reason])
    return _reasons(rows, found)


def _reasons(rows: pd.DataFrame, found: Iterable[Sequence[str]]) -> pd.Series[str]:
    """Returns the first few findings of each image that has some, and how many more there are."""
    listed = {
        index: "; ".join(reasons[:_NAMED]) + (f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else "")
        for index, reasons in zip(rows.index, found, strict=True)
        if reasons
    }
    return pd.Series(listed, dtype=str)
