"""Reads images that may be anything: truncated, of any mode, rotated by EXIF, decompression bombs."""

import base64
import binascii
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from optops.paths import files_below

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

PIXEL_LIMIT: Final = 150_000_000
"""Pixels of the largest image that is decoded: 10,000 x 10,000 fits, a decompression bomb does not."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are decoded; what else Pillow reads (EPS starts a program, for example) is refused."""

SUFFIXES: Final = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Of files that are taken for images in a folder, in lower case."""

PART: Final = 1 << 20
"""Pixels whose bits are reduced at a time."""

Mode = Literal["RGB", "L"]
DATA_URL: Final = "data:"
ORIENTATION: Final = 0x0112
SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""Values of the EXIF tag Orientation that exchange width and height."""

UPRIGHT: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What sets an image upright, by its Orientation."""

TELLING_CHUNKS: Final = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt"})
"""Of a PNG file: those that may hold EXIF or XMP."""


class ImageError(ValueError):
    """An image that can not be read; the message says why."""


@dataclass(frozen=True)
class ImageFacts:
    """What a look at a whole image file tells.

    Attributes:
        width: In pixels, upright; 0 if the file is no image.
        height: Likewise.
        mode: Pillow's name of its colour mode, for example `RGB`, `L`, `P`, `CMYK`; empty if the file is no image.
        problem: Why it can not be used, or empty.
    """

    width: int
    height: int
    mode: str
    problem: str = ""


def image_files(folder: Path) -> list[Path]:
    """Returns the files in a folder and below that have the suffix of an image, sorted; hidden ones are left out.

    Raises:
        ValueError: If the folder is missing, is no folder, or holds no such file.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {what}; name the folder that holds the images")
    found = sorted(path for path in visible_files(folder) if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no image; images end in {', '.join(sorted(SUFFIXES))}")
    return found


def visible_files(folder: Path) -> Iterator[Path]:
    """Gives the files in a folder and below but hidden ones, such as those that macOS lays beside others (`._NAME`)."""
    for path in files_below(folder):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def is_file(path: Path) -> bool:
    """Returns whether there is such a file; of a name that no file can have (too long, with a NUL), there is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def place_of(folder: Path, name: str) -> Path:
    """Returns where the file of a name is, which may be written otherwise than on this disk.

    On disks from macOS letters with accents are decomposed, in lists not; lists from Windows have backslashes.
    """
    written = (name, with_slashes(name))
    forms = [folder / name, *(folder / normalize(form, one) for one in written for form in ("NFC", "NFD"))]
    return next(filter(is_file, forms), forms[0])


def with_slashes(name: str) -> str:
    """Returns a path with slashes, whether it is written so or as on Windows."""
    return name.replace("\\", "/")


def inspect_image(source: Path | bytes, pixel_limit: int = PIXEL_LIMIT) -> ImageFacts:
    """Returns what an image is and whether all of it can be decoded; never raises for a bad one."""
    try:
        with _opened(source, pixel_limit) as image:
            width, height, mode = *image.size, image.mode
            try:
                loaded = _loaded(image)
            except ImageError as error:
                return ImageFacts(width, height, mode, str(error))
            return ImageFacts(*loaded.size, mode)
    except ImageError as error:
        return ImageFacts(0, 0, "", str(error))


def image_size(source: Path | bytes, pixel_limit: int = PIXEL_LIMIT) -> tuple[int, int]:
    """Returns width and height of an upright image from its header; decodes a PNG that may tell more after its pixels.

    Raises:
        ImageError: If it is no image, or has more pixels.
    """
    with _opened(source, pixel_limit) as image:
        # Of a TIFF Pillow has turned the size already, if the file itself and not its XMP says so.
        turned = ORIENTATION in getattr(image, "tag_v2", ())
        width, height = image.size
        return (height, width) if _lies_sideways(image) and not turned else (width, height)


def lies_sideways(source: Path | bytes, pixel_limit: int = PIXEL_LIMIT) -> bool:
    """Returns whether EXIF or XMP exchanges an image's width and height; reads what `image_size` reads.

    Raises:
        ImageError: If it is no image, or has more pixels.
    """
    with _opened(source, pixel_limit) as image:
        return _lies_sideways(image)


def has_16_bits(source: Path | bytes, pixel_limit: int = PIXEL_LIMIT) -> bool:
    """Returns whether a channel has 16 bits in the file; decoded, colours have the upper eight of them alone.

    Raises:
        ImageError: If it is no image, or has more pixels.
    """
    with _opened(source, pixel_limit) as image:
        return any(";16" in str(tile.args) for tile in image.tile)


def image_mode(source: Path | bytes, pixel_limit: int = PIXEL_LIMIT) -> str:
    """Returns Pillow's name of an image's colour mode from its header, without decoding it.

    Raises:
        ImageError: If it is no image, or has more pixels.
    """
    with _opened(source, pixel_limit) as image:
        return image.mode


def open_image(source: Path | bytes, pixel_limit: int = PIXEL_LIMIT) -> "Image":
    """Returns an image, decoded to its last pixel and upright, in its own colour mode; of several frames, the first.

    Args:
        source: A file, or what stands in one.
        pixel_limit: Pixels of the largest image that is decoded.

    Raises:
        ImageError: If it is no image, is truncated or damaged, or has more pixels.
    """
    with _opened(source, pixel_limit) as image:
        return _loaded(image)


def read_image(source: Path | bytes, mode: Mode = "RGB", pixel_limit: int = PIXEL_LIMIT) -> NDArray[np.uint8]:
    """Returns an image as uint8, [height, width, 3] for `RGB`, [height, width] for `L`; see `open_image`."""
    return pixels_of(open_image(source, pixel_limit), mode)


def pixels_of(image: "Image", mode: Mode) -> NDArray[np.uint8]:
    """Returns an image's pixels as uint8, [height, width, 3] for `RGB`, [height, width] for `L`.

    Transparency is left out; 16 bits become 8; palettes and CMYK are converted.

    Raises:
        ImageError: If its pixels are 32-bit numbers, which have no scale.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65_535:
            raise ImageError("its pixels are 32-bit numbers, whose scale nobody knows; save it with 8 or 16 bits")
        grey = _to_8_bits(values)
        return grey if mode == "L" else np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "F":
        raise ImageError("its pixels are floating-point numbers, whose scale nobody knows; save it with 8 or 16 bits")
    if image.mode in ("P", "PA") and mode == "L":
        # A palette's colours, not its numbers, are what is grey.
        image = image.convert("RGB")
    return np.asarray(image if image.mode == mode else image.convert(mode), np.uint8)


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns numbers of 0 to 65,535 as their nearest of 0 to 255."""
    wide, narrow = values.reshape(-1), np.empty(values.size, np.uint8)
    # In parts: sums take more than 16 bits, and a large image of them several times the memory of its own.
    for first in range(0, wide.size, PART):
        part = slice(first, first + PART)
        narrow[part] = (wide[part].astype(np.int32) + 128) // 257
    return narrow.reshape(values.shape)


def image_of_input(value: Any, index: int = 0) -> "Image":
    """Returns the image that a served model is given.

    Args:
        value: Bytes of an image file; the same as base64, with or without `data:image/png;base64,`; or a uint8 array
            [height, width], or [height, width, 1, 3 or 4].
        index: Its place among the inputs, for messages.

    Raises:
        ValueError: If it is no image; names it.
    """
    try:
        if isinstance(value, np.ndarray):
            return _image_of_array(value)
        if isinstance(value, str):
            value = _bytes_of_text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            image = open_image(bytes(value))
            if image.mode in ("F", "I"):
                # Refuses numbers that have no scale here, where the input is named.
                pixels_of(image, "L")
            return image
    except ImageError as error:
        raise ImageError(f"input {index}: {error}") from None
    raise ImageError(
        f"input {index} is {type(value).__name__}; expected an image file's bytes, the same as base64, or a uint8 array"
    )


def base64_of(content: bytes) -> str:
    """Returns bytes as base64 text, as JSON carries them."""
    return base64.b64encode(content).decode("ascii")


def encode_png(image: "Image") -> bytes:
    """Returns an image as the bytes of a PNG file."""
    buffer = BytesIO()
    # Level 1 takes a third of the time of the default and makes files a tenth larger.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


@contextmanager
def _opened(source: Path | bytes, pixel_limit: int) -> "Iterator[ImageFile]":
    """Gives an image whose header is read, for as long as its file is open."""
    if source == b"":
        raise ImageError("it is empty")
    with _file_of(source) as file:
        image = _identified(file)
        if image.width * image.height > pixel_limit:
            size = f"{image.width} x {image.height}"
            raise ImageError(f"it has {size} pixels, more than {pixel_limit:,}; cut it into parts")
        yield image


def _file_of(source: Path | bytes) -> BinaryIO:
    # Pillow gets no name: by that it would map an uncompressed TIFF into memory with the sides of the upright image.
    try:
        return BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except (OSError, ValueError) as error:
        raise ImageError(f"it can not be read: {error}") from None


def _identified(file: BinaryIO) -> "ImageFile":
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"it is no image of a format that is read ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has too many pixels: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"it can not be read: {error}") from None


def _lies_sideways(image: "ImageFile") -> bool:
    if _tells_after_its_pixels(image):
        with suppress(Exception):  # What is damaged is told when it is decoded.
            image.load()
    return _orientation(image) in SIDEWAYS


def _orientation(image: "ImageFile") -> Any:
    """Returns how EXIF, or else XMP, says that an image stands; None if neither can be read, which spoils no pixel."""
    from PIL.Image import Image

    try:
        # Of PNGs `getexif` is another one, which decodes all whose header has no EXIF.
        return Image.getexif(image).get(ORIENTATION)
    except Exception:  # noqa: BLE001 - of a damaged block it raises what it likes
        return None


def _tells_after_its_pixels(image: "ImageFile") -> bool:
    """Returns whether an image that is read up to its pixels is a PNG with a chunk behind them that may turn it."""
    if image.format != "PNG" or not image.tile or image.fp is None:
        return False
    file, here, kind = image.fp, image.fp.tell(), b""
    # Each chunk begins with its length and kind, and ends with a checksum of four bytes.
    file.seek(image.tile[0].offset - 8)
    while kind not in TELLING_CHUNKS and len(head := file.read(8)) == 8:
        kind = head[4:]
        file.seek(int.from_bytes(head[:4], "big") + 4, SEEK_CUR)
    file.seek(here)
    return kind in TELLING_CHUNKS


def _loaded(image: "ImageFile") -> "Image":
    """Returns an opened image decoded, upright and independent of its file."""
    from PIL.Image import Transpose

    try:
        image.load()
        # Not by `ImageOps.exif_transpose`, which writes the whole EXIF block anew and fails at one odd tag in it.
        method = UPRIGHT.get(_orientation(image))
        return image.copy() if method is None else image.transpose(Transpose[method])
    except MemoryError:
        raise ImageError("it does not fit into memory") from None
    except Exception as error:
        # Decoders raise what they like for damaged files: OSError, SyntaxError, struct.error, IndexError ...
        reason = "it is truncated" if "truncated" in str(error).lower() else "it is damaged"
        raise ImageError(f"{reason}: {error}") from error


def _image_of_array(values: NDArray[Any]) -> "Image":
    from PIL import Image

    channels = values.shape[2] if values.ndim == 3 else 1
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in values.shape:
        raise ImageError(
            f"the array is {values.dtype} {list(values.shape)}; expected uint8 [height, width] or "
            "[height, width, 1, 3 or 4]"
        )
    if values.shape[0] * values.shape[1] > PIXEL_LIMIT:
        raise ImageError(f"the array has {list(values.shape)} pixels, more than {PIXEL_LIMIT:,}; cut it into parts")
    return Image.fromarray(values[..., 0] if values.ndim == 3 and channels == 1 else values)


def _bytes_of_text(text: str) -> bytes:
    if text.startswith(DATA_URL):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise ImageError(f"the data URL {head!r:.40} does not say base64")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the text {text!r:.30} is no base64 of an image file: {error}") from None
