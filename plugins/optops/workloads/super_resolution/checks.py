"""Which label checks images undergo, and what stands behind each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from optops.workloads.label_checks import RowCheck
from optops.workloads.repetition import find_elsewhere, find_repeated
from optops.workloads.super_resolution.settings import CHECKS, Thresholds

_check = partial(RowCheck.standard, CHECKS)


def image_checks(scale: int, patch: int, thresholds: Thresholds) -> list[RowCheck]:
    """Returns the checks of what `examine` gives.

    Args:
        scale: How many times as large images are as their low-resolution ones.
        patch: Side of the squares that are trained on; training images are at least as large.
        thresholds: What counts as a defect.
    """
    side = thresholds.min_side
    return [
        _check("unreadable", "Every image can be decoded to its last pixel.", find_unreadable, ("problem",)),
        _check(
            "missing_partner", "Where low-resolution images are given, each has its large one.",
            find_missing_partner, ("high", "low", "pair"),
        ),
        _check(
            "wrong_scale", f"Images are {scale} times as large as their low-resolution ones.",
            find_wrong_scale, ("height", "width", "low_height", "low_width"), scale=scale,
        ),
        _check(
            "too_small", f"Images are at least {side} pixels high and wide, {max(side, patch)} in training.",
            find_too_small, ("height", "width", "split"), min_side=side, patch=patch,
        ),
        _check(
            "misaligned", "Low-resolution images show the same place as their large ones.",
            find_misaligned, ("match", "down", "right"),
        ),
        _check(
            "different_content",
            f"Low-resolution images match their large ones, resized, at {thresholds.min_match:g} dB or better.",
            find_different_content, ("match",), min_match=thresholds.min_match,
        ),
        _check(
            "duplicate", "No image stands in a split twice.",
            find_repeated, ("pixels",), keys=["pixels"], what="image",
        ),
        _check(
            "overlap", "No image stands in two splits.",
            find_elsewhere, ("elsewhere",),
        ),
        _check(
            "flat", f"The luma's standard deviation is {thresholds.min_spread:g} of 255 levels or more.",
            find_flat, ("spread",), min_spread=thresholds.min_spread,
        ),
    ]  # fmt: skip


def find_unreadable(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images that can not be decoded."""
    return rows["problem"][rows["problem"] != ""]


def find_missing_partner(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names images of which the other size is missing."""
    reasons = pd.Series("", index=rows.index)
    reasons[rows["high"] == ""] = "there is a low-resolution image, but no large one of this name"
    reasons[rows["pair"] & (rows["low"] == "")] = "there is a large image, but no low-resolution one of this name"
    return reasons[reasons != ""]


def find_wrong_scale(rows: pd.DataFrame, scale: int) -> "pd.Series[str]":
    """Names pairs whose sizes do not belong together."""
    known = (rows["height"] > 0) & (rows["low_height"] > 0)
    wrong = known & ((rows["height"] // scale != rows["low_height"]) | (rows["width"] // scale != rows["low_width"]))

    def say(row: dict[Any, Any]) -> str:
        sizes = f"{row['width']} x {row['height']} against {row['low_width']} x {row['low_height']}"
        rounded_up = -(-row["height"] // scale) == row["low_height"] and -(-row["width"] // scale) == row["low_width"]
        remedy = f", but rounded up: cut large images to multiples of {scale} before they are made small"
        return f"{sizes} is not {scale} to 1{remedy if rounded_up else ''}"

    return _reasons(rows[wrong], say)


def find_too_small(rows: pd.DataFrame, min_side: int, patch: int) -> "pd.Series[str]":
    """Names images that are too small to be learnt from or judged on."""
    least = rows["split"].map(lambda split: max(min_side, patch) if split == "train" else min_side)
    small = (rows["height"] > 0) & (rows[["height", "width"]].min(axis=1) < least)
    return _reasons(rows[small], lambda row: f"{row['width']} x {row['height']} pixels")


def find_misaligned(rows: pd.DataFrame) -> "pd.Series[str]":
    """Names pairs that match better when one is moved."""
    moved = (rows["down"] != 0) | (rows["right"] != 0)
    return _reasons(
        rows[moved],
        lambda row: (
            f"the large image fits best when looked at {row['down']} pixels further down and {row['right']} "
            "further right"
        ),
    )


def find_different_content(rows: pd.DataFrame, min_match: float) -> "pd.Series[str]":
    """Names pairs that show different things."""
    return _reasons(
        rows[rows["match"] < min_match],
        lambda row: f"the low-resolution image and the resized large one match at {row['match']:.1f} dB",
    )


def find_flat(rows: pd.DataFrame, min_spread: float) -> "pd.Series[str]":
    """Names images with nothing on them."""
    return _reasons(
        rows[rows["spread"] < min_spread], lambda row: f"the luma's standard deviation is {row['spread']:.2f}"
    )


def _reasons(rows: pd.DataFrame, say: Callable[[dict[Any, Any]], str]) -> "pd.Series[str]":
    return pd.Series([say(row) for row in rows.to_dict("records")], index=rows.index, dtype=object)
