"""Which label checks classified images undergo, and what stands behind each."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from optops.spelling import hint
from optops.workloads.image_classification.settings import CHECKS, Thresholds
from optops.workloads.images import ImageError, is_file, read_image
from optops.workloads.label_checks import LabelCheck, RowCheck

_HERE: Final = "optops.workloads.image_classification.checks"


def examine(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame with what a look at each image tells.

    Args:
        frame: What `find_images` gives, of all splits together, and a column `split`.

    Returns:
        New columns: `problem` (why it can not be decoded, or empty), `height`, `width`, `pixels` (a digest of them,
        whatever the format), `elsewhere` (a file of a later split with the same pixels, or empty).
    """
    found = pd.DataFrame(
        [_look(Path(file)) for file in frame["file"]],
        columns=["problem", "height", "width", "pixels"],
        index=frame.index,
    )
    examined = pd.concat([frame, found], axis=1)
    order = {split: place for place, split in enumerate(frame["split"].unique())}
    seen: dict[str, list[tuple[int, str]]] = {}
    for split, pixels, file in zip(frame["split"], examined["pixels"], frame["file"], strict=True):
        seen.setdefault(pixels, []).append((order[split], f"{split}: {file}"))
    elsewhere = [
        next((file for place, file in seen[pixels] if pixels and place > order[split]), "")
        for split, pixels in zip(frame["split"], examined["pixels"], strict=True)
    ]
    return examined.assign(elsewhere=elsewhere)


def class_checks(classes: Sequence[str], thresholds: Thresholds) -> list[RowCheck]:
    """Returns the checks of what `examine` gives."""
    return [
        _check("unreadable", "Every image is there and can be decoded to its last pixel.", "problem"),
        _check(
            "too_small",
            f"Images are at least {thresholds.min_side} pixels high and wide.",
            "height", "width", min_side=thresholds.min_side,
        ),
        _check(
            "unknown_class", f"Labels are among {', '.join(classes)}.", "label",
            classes=list(classes),
        ),
        _check("duplicate", "No image stands in a split twice.", "pixels", "label", "file"),
        _check(
            "conflicting_class", "Images with the same pixels have one label.",
            "pixels", "label", "file",
        ),
        _check(
            "overlap", "No training image stands in validation or test, none of validation in test.",
            "elsewhere",
        ),
        _check(
            "class_balance",
            f"Every class has {thresholds.min_share:.0%} of the mean class's examples or more.",
            "label", classes=list(classes), min_share=thresholds.min_share,
        ),
    ]  # fmt: skip


def _check(name: str, description: str, *columns: str, **parameters: Any) -> RowCheck:
    label = LabelCheck.standard(name, CHECKS, description)
    return RowCheck(label, f"{_HERE}:find_{name}", columns, parameters)


def find_unreadable(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images that can not be decoded."""
    return rows["problem"][rows["problem"] != ""]


def find_too_small(rows: pd.DataFrame, min_side: int) -> "pd.Series[str]":
    """Names images that show too little."""
    small = rows[(rows["height"] > 0) & (rows[["height", "width"]].min(axis=1) < min_side)]
    return small["width"].astype(str) + " x " + small["height"].astype(str) + " pixels"


def find_unknown_class(rows: pd.DataFrame, classes: list[str]) -> "pd.Series[str]":
    """Names labels that are no class."""
    unknown = rows["label"][~rows["label"].isin(classes)]
    return unknown.map(lambda label: f"{label!r} is no class; {hint(label, classes)}")


def find_duplicate(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images whose pixels and label an earlier image of the split has."""
    known = rows[rows["pixels"] != ""]
    first = known.groupby(["pixels", "label"], sort=False)["file"].transform("first")
    return ("the same pixels as " + first)[known.duplicated(["pixels", "label"])]


def find_conflicting_class(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images whose pixels have other labels too."""
    known = rows[rows["pixels"] != ""]
    labels = known.groupby("pixels")["label"].transform(lambda each: ", ".join(sorted(set(each))))
    several = known.groupby("pixels")["label"].transform("nunique") > 1
    return ("the same pixels are labelled " + labels)[several]


def find_overlap(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images that a later split has too."""
    return ("the same pixels as " + rows["elsewhere"])[rows["elsewhere"] != ""]


def find_class_balance(rows: pd.DataFrame, classes: list[str], min_share: float) -> "pd.Series[str]":
    """Names the examples of classes that have few; the first example of the split stands for classes without any."""
    counts = rows["label"][rows["label"].isin(classes)].value_counts()
    rare = set(counts[counts < min_share * len(rows) / len(classes)].index)
    reasons: dict[Any, str] = {}
    if absent := [name for name in classes if name not in counts]:
        reasons[rows.index[0]] = f"the split has no example of {', '.join(absent)}"
    for index, label in rows["label"].items():
        if label in rare:
            own = f"{label} has {counts[label]} of {len(rows)} examples"
            reasons[index] = f"{reasons[index]}; {own}" if index in reasons else own
    return pd.Series(reasons, dtype=object).astype(str)


def _look(path: Path) -> tuple[str, int, int, str]:
    if not is_file(path):
        return "the file does not exist", 0, 0, ""
    try:
        pixels = read_image(path)
    except ImageError as error:
        return str(error), 0, 0, ""
    content = hashlib.sha256(str(pixels.shape).encode())
    content.update(np.ascontiguousarray(pixels).data)
    return "", pixels.shape[0], pixels.shape[1], content.hexdigest()[:16]
