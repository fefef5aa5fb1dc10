"""Which label checks labelled images undergo, with their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import pandas as pd

from optops.workloads.dark_images import find_dark_16_bit
from optops.workloads.detection import box_checks, image_checks
from optops.workloads.detection.inspection import look_at_all
from optops.workloads.detection.settings import CHECKS, Thresholds
from optops.workloads.detection.split_boxes import refuse_splits_without_boxes
from optops.workloads.label_checks import RowCheck
from optops.workloads.repetition import find_elsewhere, find_repeated, seen_elsewhere

_SHOWN: Final = ("name",)

_check = partial(RowCheck.standard, CHECKS)


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
        dark=[look.dark for look in looks],
        sideways=[look.sideways for look in looks],
    )
    frame = frame.assign(
        elsewhere=seen_elsewhere(frame, "pixels", "image"),
        near=image_checks.near_elsewhere(frame, looks, thresholds.near_difference),
    )
    return frame, [*_box_checks(classes, thresholds), *_image_checks(thresholds)]


def _box_checks(classes: Sequence[str], thresholds: Thresholds) -> list[RowCheck]:
    return [
        _check(
            "malformed", "Annotations can be read, every number in them is one.",
            box_checks.find_malformed, ("faults",), _SHOWN,
        ),
        _check("no_area", "Boxes have an area.", box_checks.find_no_area, ("boxes",), _SHOWN),
        _check(
            "outside_image",
            f"No box stands over the image's edge by more than {thresholds.outside_pixels:g} pixels.",
            box_checks.find_outside, ("boxes", "real_width", "real_height"), _SHOWN,
            allowed=thresholds.outside_pixels,
        ),
        _check(
            "unknown_class", f"Classes are {', '.join(classes)}.",
            box_checks.find_unknown_class, ("boxes",), _SHOWN, classes=list(classes),
        ),
        _check(
            "absent_class", "Every class has a box to be found.",
            box_checks.find_absent_class, ("boxes",), _SHOWN, classes=list(classes),
        ),
        _check(
            "doubled_box",
            f"No two boxes of one class overlap by more than {thresholds.doubled_overlap:g} (IoU).",
            box_checks.find_doubled, ("boxes",), _SHOWN, most=thresholds.doubled_overlap,
        ),
        _check(
            "tiny_box", f"Boxes have {thresholds.tiny_pixels:g} pixels or more on each side.",
            box_checks.find_tiny, ("boxes",), _SHOWN, least=thresholds.tiny_pixels,
        ),
    ]  # fmt: skip


def _image_checks(thresholds: Thresholds) -> list[RowCheck]:
    return [
        _check(
            "unreadable", "Images can be decoded to the last pixel.",
            image_checks.find_unreadable, ("problem",), _SHOWN,
        ),
        _check(
            "dark_16_bit", "Images of 16 bits use more than 12 of them.", find_dark_16_bit, ("dark",), _SHOWN,
        ),
        _check(
            "wrong_size", "Annotations give the size that the image has.",
            image_checks.find_wrong_size, ("width", "height", "real_width", "real_height", "sideways"), _SHOWN,
        ),
        _check("no_boxes", "Every image has a box.", image_checks.find_no_boxes, ("boxes", "faults"), _SHOWN),
        _check(
            "conflicting_labels", "In a split, the same image has the same labels.",
            image_checks.find_conflicts, ("pixels", "boxes"), _SHOWN,
        ),
        _check(
            "duplicate_image", "No image stands in a split twice.",
            find_repeated, ("pixels",), _SHOWN, keys=["pixels"], what="image",
        ),
        _check(
            "overlap", "No image stands in two splits.",
            find_elsewhere, ("elsewhere",), _SHOWN,
        ),
        _check(
            "near_overlap",
            "No image of a later split looks nearly the same: thumbnails differ by "
            f"{thresholds.near_difference:g} grey levels or more.",
            image_checks.find_near_overlap, ("near",), _SHOWN,
        ),
    ]  # fmt: skip
