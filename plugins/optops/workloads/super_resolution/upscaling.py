"""Images through an executable, tile by tile, so that memory stays bounded whatever their size."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optops.models.super_resolution import INPUT, OUTPUT
from optops.workloads.super_resolution.loading import GREY_MODES, visible_pixels
from optops.workloads.super_resolution.quality import chroma, luma, rgb_of
from optops.workloads.super_resolution.resizing import enlarge, to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

    from optops.runtimes.base import Executable

SETTINGS_FILE = "super_resolution.json"
TILE = 256
"""Side of what one call of the executable answers, in pixels of the small image."""

CUBIC_REACH = 4
"""How far a bicubically resized pixel sees, in pixels of the small image, and something to spare."""

OUTPUT_PIXELS = 450_000_000
"""Most pixels of an enlarged image: 10,000 x 10,000, twice as large along both sides, fits."""


@dataclass(frozen=True)
class Upscaling:
    """What a model's assets say of how it is used.

    Attributes:
        scale: How many times as large it makes an image.
        reach: How many pixels around a pixel its answer may depend on: tiles overlap by that.
    """

    scale: int
    reach: int

    def save(self, assets: Path) -> None:
        """Writes the settings into a folder of assets."""
        (assets / SETTINGS_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, assets: Path) -> "Upscaling":
        """Reads what `save` wrote."""
        return cls(**json.loads((assets / SETTINGS_FILE).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Tile:
    """A part of an image that is answered by one call.

    Attributes:
        seen: What the executable is given, rows and columns of the small image.
        inner: Which part of that is answered for, counted within `seen`.
        place: Where that part stands in the small image.
    """

    seen: tuple[slice, slice]
    inner: tuple[slice, slice]
    place: tuple[slice, slice]


def tiles(height: int, width: int, side: int, overlap: int) -> Iterator[Tile]:
    """Cuts an image into tiles; each sees `overlap` pixels more on all sides, as far as there are some."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            axes = [_axis(start, size, side, overlap) for start, size in ((top, height), (left, width))]
            yield Tile(*(tuple(axis[part] for axis in axes) for part in range(3)))  # type: ignore[arg-type]


def _axis(start: int, size: int, side: int, overlap: int) -> tuple[slice, slice, slice]:
    end = min(start + side, size)
    first, last = max(0, start - overlap), min(size, end + overlap)
    return slice(first, last), slice(start - first, end - first), slice(start, end)


def scaled(part: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """Returns where a part of the small image stands in the large one."""
    rows, columns = (slice(axis.start * scale, axis.stop * scale) for axis in part)
    return rows, columns


def upscale_luma(
    executable: "Executable", values: NDArray[Any], upscaling: Upscaling, tile: int = TILE
) -> NDArray[np.uint8]:
    """Returns a luma [height, width], 0 to 255, enlarged, in bytes."""
    height, width = values.shape
    large = np.empty((height * upscaling.scale, width * upscaling.scale), np.uint8)
    for part in tiles(height, width, tile, upscaling.reach):
        answer = to_bytes(_call(executable, values[part.seen]))
        large[scaled(part.place, upscaling.scale)] = answer[scaled(part.inner, upscaling.scale)]
    return large


def upscale_pixels(
    executable: "Executable", pixels: NDArray[np.uint8], upscaling: Upscaling, tile: int = TILE
) -> NDArray[np.uint8]:
    """Returns pixels, grey [height, width] or RGB [height, width, 3], enlarged.

    The executable makes the luma; the chroma, which eyes see far less sharply, is resized bicubically.
    """
    if pixels.ndim == 2:
        return upscale_luma(executable, pixels, upscaling, tile)
    scale, (height, width) = upscaling.scale, pixels.shape[:2]
    large = np.empty((height * scale, width * scale, 3), np.uint8)
    for part in tiles(height, width, tile, max(upscaling.reach, CUBIC_REACH)):
        seen, inner = pixels[part.seen], scaled(part.inner, scale)
        answer = _call(executable, luma(seen))[inner]
        large[scaled(part.place, scale)] = rgb_of(answer, enlarge(chroma(seen), scale)[inner])
    return large


def upscale_image(executable: "Executable", image: "Image", upscaling: Upscaling) -> "Image":
    """Returns an image enlarged: grey stays grey, transparency is resized and kept, all else becomes RGB.

    Raises:
        ValueError: If the enlarged image would have too many pixels.
    """
    from PIL import Image

    if image.width * image.height * upscaling.scale**2 > OUTPUT_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} pixels, {upscaling.scale} times as large along both sides, are more than "
            f"{OUTPUT_PIXELS:,}; cut the image into parts"
        )
    alpha = _alpha(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    large = Image.fromarray(upscale_pixels(executable, visible_pixels(image), upscaling))
    if alpha is not None:
        large.putalpha(alpha.resize(large.size, Image.Resampling.BICUBIC))
    return large


def _alpha(image: "Image") -> "Image | None":
    """Returns how opaque each pixel is, if the image says so."""
    if not image.has_transparency_data:
        return None
    kind = "LA" if image.mode in GREY_MODES else "RGBA"
    return image.convert(kind).getchannel("A")


def _call(executable: "Executable", values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the executable's answer to a luma, 0 to 255."""
    inputs = {INPUT: (values[None, :, :, None] / 255).astype(np.float32)}
    return executable(inputs)[OUTPUT][0, :, :, 0].astype(np.float64) * 255
