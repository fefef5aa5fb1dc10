"""Decodes the examples of super-resolution: lumas to train and judge on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from optops.workloads.images import ImageError, open_image, pixels_of
from optops.workloads.super_resolution.quality import luma
from optops.workloads.super_resolution.resizing import shrink, to_bytes

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

Example = Mapping[str, Any]
"""A row of what `find_images` gives."""

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


def rows_of(examples: "pd.DataFrame") -> list[Example]:
    """Returns the examples one by one."""
    return cast(list[Example], examples.to_dict("records"))


def visible_pixels(image: "Image") -> NDArray[np.uint8]:
    """Returns an image's pixels, [height, width] if it is grey, else RGB [height, width, 3]."""
    return pixels_of(image, "L" if image.mode in GREY_MODES else "RGB")


def load_pixels(file: str) -> NDArray[np.uint8]:
    """Returns the pixels of a file; see `visible_pixels`.

    Raises:
        ImageError: If it can not be used; names the file and why.
    """
    try:
        return visible_pixels(open_image(Path(file)))
    except ImageError as error:
        raise ImageError(
            f"{file}: {error}; mend or remove it (`check_labels.quarantine` leaves such images out of training)"
        ) from None


def load_low(example: Example, scale: int) -> NDArray[np.uint8]:
    """Returns the low-resolution pixels of an example: those given, or made of the large image."""
    return load_pixels(example["low"]) if example["low"] else shrink(load_pixels(example["high"]), scale)


def load_high_luma(example: Example, scale: int) -> NDArray[np.uint8]:
    """Returns the luma of an example's large image, in bytes, cut to a multiple of the scale."""
    pixels = load_pixels(example["high"])
    height, width = pixels.shape[0] // scale * scale, pixels.shape[1] // scale * scale
    return to_bytes(luma(pixels[:height, :width]))
