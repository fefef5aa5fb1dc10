"""Which label checks classified images undergo, and what stands behind each."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from optops.workloads.class_checks import (
    enumerate_classes,
    find_conflicting_class,
    find_rare_class,
    find_unknown_class,
)
from optops.workloads.dark_images import find_dark_16_bit, is_dark_16_bit
from optops.workloads.image_classification.settings import CHECKS, Thresholds
from optops.workloads.images import ImageError, is_file, open_image, pixels_of
from optops.workloads.label_checks import RowCheck
from optops.workloads.repetition import find_elsewhere, find_repeated, seen_elsewhere

_check = partial(RowCheck.standard, CHECKS)


def examine(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame with what a look at each image tells.

    Args:
        frame: What `find_images` gives, of all splits together, and a column `split`.

    Returns:
        New columns: `problem` (why it can not be decoded, or empty), `height`, `width`, `pixels` (a digest of them,
        whatever the format), `dark` (whether it has 16 bits and uses 12 at most), `elsewhere` (where another split has
        the same pixels, or empty).
    """
    found = pd.DataFrame(
        [_look(Path(file)) for file in frame["file"]],
        columns=["problem", "height", "width", "pixels", "dark"],
        index=frame.index,
    )
    examined = pd.concat([frame, found], axis=1)
    return examined.assign(elsewhere=seen_elsewhere(examined, "pixels", "image"))


def class_checks(classes: Sequence[str], thresholds: Thresholds) -> list[RowCheck]:
    """Returns the checks of what `examine` gives."""
    return [
        _check(
            "unreadable", "Every image is there and can be decoded to its last pixel.",
            find_unreadable, ("problem",),
        ),
        _check(
            "too_small", f"Images are at least {thresholds.min_side} pixels high and wide.",
            find_too_small, ("height", "width"), min_side=thresholds.min_side,
        ),
        _check(
            "dark_16_bit", "Images of 16 bits use more than 12 of them.",
            find_dark_16_bit, ("dark",), ("height", "width"),
        ),
        _check(
            "unknown_class", f"Every label is one of the classes: {enumerate_classes(classes)}.",
            find_unknown_class, ("label",), classes=list(classes),
        ),
        _check(
            "duplicate", "No image stands in a split twice.",
            find_repeated, ("pixels", "label"), ("label",), keys=["pixels", "label"], what="image",
        ),
        _check(
            "conflicting_class", "Images with the same pixels have one label.",
            find_conflicting_class, ("pixels", "label"), ("label",), key="pixels",
        ),
        _check(
            "overlap", "No image stands in two splits.",
            find_elsewhere, ("elsewhere",),
        ),
        _check(
            "class_balance",
            f"Every class has {thresholds.min_share:.0%} of the mean class's examples or more.",
            find_rare_class, ("label",), classes=list(classes), min_share=thresholds.min_share / len(classes),
        ),
    ]  # fmt: skip


def find_unreadable(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images that can not be decoded."""
    return rows["problem"][rows["problem"] != ""]


def find_too_small(rows: pd.DataFrame, min_side: int) -> "pd.Series[str]":
    """Names images that show too little."""
    small = rows[(rows["height"] > 0) & (rows[["height", "width"]].min(axis=1) < min_side)]
    return small["width"].astype(str) + " x " + small["height"].astype(str) + " pixels"


def _look(path: Path) -> tuple[str, int, int, str, bool]:
    if not is_file(path):
        return "the file does not exist", 0, 0, "", False
    try:
        image = open_image(path)
        pixels = pixels_of(image, "RGB")
    except ImageError as error:
        return str(error), 0, 0, "", False
    content = hashlib.sha256(str(pixels.shape).encode())
    content.update(np.ascontiguousarray(pixels).data)
    return "", pixels.shape[0], pixels.shape[1], content.hexdigest()[:16], is_dark_16_bit(image, path)
