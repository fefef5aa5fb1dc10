"""Looks at every image once, all of it: whether it can be read, how large it is, and what it looks like."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optops.workloads.dark_images import is_dark_16_bit
from optops.workloads.detection.letterbox import shrink
from optops.workloads.images import ImageError, image_size, is_file, lies_sideways, open_image, pixels_of

THUMBNAIL = 16
LARGEST_WHOLE = 1024


@dataclass(frozen=True)
class Look:
    """What an image is.

    Attributes:
        problem: Why it can not be used, or empty.
        width: In pixels, upright; 0 if it is no image.
        height: Likewise.
        pixels: Digest of its size and pixels; empty if it can not be used.
        thumbnail: Grey, uint8 [THUMBNAIL, THUMBNAIL]; empty if it can not be used.
        dark: Whether it has 16 bits and uses 12 of them at most.
        sideways: Whether width and height are exchanged in the file, as its EXIF says.
    """

    problem: str
    width: int
    height: int
    pixels: str
    thumbnail: NDArray[np.uint8]
    dark: bool = False
    sideways: bool = False


def look_at_all(paths: Sequence[str]) -> list[Look]:
    """Returns what each image is; decodes them side by side, since decoders leave Python's lock."""
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(look_at, map(Path, paths)))


def look_at(path: Path) -> Look:
    """Returns what an image is; never raises for a bad one."""
    nothing = np.zeros((0, 0), np.uint8)
    if not is_file(path):
        return Look("there is no such file", 0, 0, "", nothing)
    width = height = 0
    try:
        width, height = image_size(path)
        image = open_image(path)
        total = hashlib.sha256(f"{image.size}".encode())
        small = shrink(image, LARGEST_WHOLE)
        total.update(small.tobytes())
        grey = pixels_of(small.convert("L").resize((THUMBNAIL, THUMBNAIL)), "L")
        return Look("", *image.size, total.hexdigest()[:32], grey, is_dark_16_bit(image, path), lies_sideways(path))
    except ImageError as error:
        return Look(str(error), width, height, "", nothing)
