"""Which label checks labelled images undergo, with their thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from optops.workloads.detection.image_checks import near_elsewhere, seen_elsewhere
from optops.workloads.detection.inspection import look_at_all
from optops.workloads.detection.settings import CHECKS, Thresholds
from optops.workloads.detection.split_boxes import refuse_splits_without_boxes
from optops.workloads.label_checks import LabelCheck, RowCheck

_BOXES: Final = "optops.workloads.detection.box_checks"
_IMAGES: Final = "optops.workloads.detection.image_checks"
_SHOWN: Final = ("name",)


def detection_checks(
    frame: pd.DataFrame, classes: Sequence[str], thresholds: Thresholds
) -> tuple[pd.DataFrame, list[RowCheck]]:
    """Prepare the checks of labelled images, for `optops.workloads.label_checks.run_checks`.

    Every image is decoded here, once.

    Args:
        frame: What `read_detection` gives, of all splits together, and a column `split`.
        classes: Names of the classes.
        thresholds: What counts as a defect.

    Returns:
        The frame with columns added that tell what the images are and where else they stand; and the checks.

    Raises:
        ValueError: If a split has no box to be found.
    """
    refuse_splits_without_boxes(frame, classes)
    looks = look_at_all(frame["image"].tolist())
    frame = frame.assign(
        problem=[look.problem for look in looks],
        real_width=[look.width for look in looks],
        real_height=[look.height for look in looks],
        pixels=[look.pixels for look in looks],
    )
    frame = frame.assign(elsewhere=seen_elsewhere(frame), near=near_elsewhere(frame, looks, thresholds.near_difference))
    return frame, [*_box_checks(classes, thresholds), *_image_checks(thresholds)]


def _box_checks(classes: Sequence[str], thresholds: Thresholds) -> list[RowCheck]:
    return [
        _check("malformed", "Annotations can be read, every number in them is one.",
               "find_malformed", ("faults",)),
        _check("no_area", "Boxes have an area.", "find_no_area"),
        _check(
            "outside_image",
            f"No box stands over the image's edge by more than {thresholds.outside_pixels:g} pixels.",
            "find_outside", ("boxes", "real_width", "real_height"), {"allowed": thresholds.outside_pixels},
        ),
        _check("unknown_class", f"Classes are {', '.join(classes)}.", "find_unknown_class",
               parameters={"classes": list(classes)}),
        _check(
            "doubled_box",
            f"No two boxes of one class overlap by more than {thresholds.doubled_overlap:g} (IoU).",
            "find_doubled", parameters={"most": thresholds.doubled_overlap},
        ),
        _check("tiny_box", f"Boxes have {thresholds.tiny_pixels:g} pixels or more on each side.",
               "find_tiny", parameters={"least": thresholds.tiny_pixels}),
    ]  # fmt: skip


def _image_checks(thresholds: Thresholds) -> list[RowCheck]:
    same = ("pixels", "boxes")
    return [
        _check("unreadable", "Images can be decoded to the last pixel.", "find_unreadable",
               ("problem",), module=_IMAGES),
        _check("wrong_size", "Annotations give the size that the image has.", "find_wrong_size",
               ("width", "height", "real_width", "real_height"), module=_IMAGES),
        _check("no_boxes", "Every image has a box.", "find_no_boxes", ("boxes", "faults"),
               module=_IMAGES),
        _check("conflicting_labels", "The same image has the same labels everywhere.",
               "find_conflicts", same, module=_IMAGES),
        _check("duplicate_image", "No image stands in a split twice.", "find_duplicates",
               ("pixels",), module=_IMAGES),
        _check("overlap", "No training image stands in validation or test, no validation image in "
               "test.", "find_overlap", ("elsewhere",), module=_IMAGES),
        _check(
            "near_overlap",
            "No image of a later split looks nearly the same: thumbnails differ by "
            f"{thresholds.near_difference:g} grey levels or more.",
            "find_near_overlap", ("near",), module=_IMAGES,
        ),
    ]  # fmt: skip


def _check(
    name: str,
    description: str,
    function: str,
    columns: tuple[str, ...] = ("boxes",),
    parameters: Mapping[str, Any] | None = None,
    module: str = _BOXES,
) -> RowCheck:
    label = LabelCheck.standard(name, CHECKS, description)
    return RowCheck(label, f"{module}:{function}", columns, parameters or {}, _SHOWN)
