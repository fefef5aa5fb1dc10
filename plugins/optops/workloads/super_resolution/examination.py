"""Looks at every image once, to its last pixel: what the label checks judge by."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from optops.workloads.images import ImageError, open_image
from optops.workloads.repetition import seen_elsewhere
from optops.workloads.super_resolution.alignment import align
from optops.workloads.super_resolution.loading import Example, coloured, rows_of, visible_pixels
from optops.workloads.super_resolution.quality import luma

LOOKED_AT = 512
"""Pixels along the shorter side that are enough to tell whether an image is flat."""


@dataclass(frozen=True)
class Finding:
    """What one example looks like.

    Attributes:
        problem: Why it, or its low-resolution image, can not be decoded; empty if it can.
        height: Of the image; 0 if it can not be decoded or is missing.
        width: Likewise.
        low_height: Of its low-resolution image; 0 if none is given.
        low_width: Likewise.
        pixels: Digest of the image's pixels, whatever format they are kept in.
        spread: Standard deviation of its luma, of 255 levels.
        match: PSNR of the low-resolution image against the resized one, at the best place; NaN if there is none.
        down: How far the image is to be moved for the best match, in its pixels.
        right: Likewise.
    """

    problem: str = ""
    height: int = 0
    width: int = 0
    low_height: int = 0
    low_width: int = 0
    pixels: str = ""
    spread: float = float("nan")
    match: float = float("nan")
    down: int = 0
    right: int = 0


def examine(frame: pd.DataFrame, scale: int) -> pd.DataFrame:
    """Returns the frame with a column for each attribute of `Finding`, and `elsewhere`.

    Args:
        frame: What `find_images` gives, of all splits together, and a column `split`.
        scale: How many times as large images are as their low-resolution ones.

    Returns:
        `elsewhere` says where another split has the same pixels; empty for nowhere.
    """
    found = [_examine(example, scale) for example in rows_of(frame)]
    columns = pd.DataFrame([asdict(finding) for finding in found], index=frame.index)
    examined = pd.concat([frame, columns], axis=1)
    return examined.assign(elsewhere=seen_elsewhere(examined, "pixels", "image"))


def _examine(example: Example, scale: int) -> Finding:
    problems, pixels = [], {}
    for side in ("high", "low"):
        if example[side]:
            try:
                pixels[side] = visible_pixels(open_image(Path(example[side])))
            except ImageError as error:
                problems.append(f"{example[side]}: {error}" if example["pair"] else str(error))
    high, low = pixels.get("high"), pixels.get("low")
    sizes: dict[str, int] = {}
    for prefix, array in (("", high), ("low_", low)):
        if array is not None:
            sizes |= {f"{prefix}height": array.shape[0], f"{prefix}width": array.shape[1]}
    facts: dict[str, Any] = {"problem": "; ".join(problems), **sizes}
    if high is not None:
        facts |= {"pixels": _digest(high), "spread": float(np.std(luma(_thinned(high))))}
        if low is not None and fits(high.shape, low.shape, scale):
            if low.ndim != high.ndim:
                # One of them is grey, which has another luma.
                low, high = coloured(low), coloured(high)
            facts |= asdict(align(low, high, scale))
    return Finding(**facts)


def fits(high: tuple[int, ...], low: tuple[int, ...], scale: int) -> bool:
    """Returns whether an image is `scale` times as large as another, less than `scale` pixels at its end left out."""
    return tuple(size // scale for size in high[:2]) == low[:2]


def _thinned(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns every n-th pixel of a large image: enough to tell whether there is anything on it."""
    step = max(1, min(pixels.shape[:2]) // LOOKED_AT)
    return pixels[::step, ::step]


def _digest(pixels: NDArray[np.uint8]) -> str:
    content = hashlib.sha256(str(pixels.shape).encode())
    content.update(np.ascontiguousarray(pixels).data)
    return content.hexdigest()[:16]
