"""Decodes the examples of super-resolution: lumas to train and judge on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from optops.workloads.images import ImageError, image_mode, open_image, pixels_of
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


def coloured(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns an image's pixels as RGB [height, width, 3]; grey ones are repeated."""
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def load_pixels(file: str) -> NDArray[np.uint8]:
    """Returns the pixels of a file; see `visible_pixels`.

    Raises:
        ImageError: If it can not be used; names the file and why.
    """
    with _named(file):
        return visible_pixels(open_image(Path(file)))


def load_low(example: Example, scale: int) -> NDArray[np.uint8]:
    """Returns the low-resolution pixels of an example: those given, or made of the large image."""
    return _load(example, "low", "high") if example["low"] else shrink(load_pixels(example["high"]), scale)


def load_high_luma(example: Example, scale: int) -> NDArray[np.uint8]:
    """Returns the luma of an example's large image, in bytes, cut to a multiple of the scale."""
    pixels = _load(example, "high", "low")
    height, width = pixels.shape[0] // scale * scale, pixels.shape[1] // scale * scale
    return to_bytes(luma(pixels[:height, :width]))


def _load(example: Example, side: str, other: str) -> NDArray[np.uint8]:
    """Returns the pixels of one side of a pair: as RGB if it is grey and the other is not, whose luma is another."""
    pixels = load_pixels(example[side])
    if pixels.ndim == 3 or not example[other]:
        return pixels
    with _named(example[other]):
        return pixels if image_mode(Path(example[other])) in GREY_MODES else coloured(pixels)


@contextmanager
def _named(file: str) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(
            f"{file}: {error}; mend or remove it (`check_labels.quarantine` leaves such images out of training)"
        ) from None
