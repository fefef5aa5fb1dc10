"""Files of text: their lines as they are, without cleaning them, and what makes two texts the same."""

from __future__ import annotations

import codecs
import gzip
import unicodedata
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optops.spelling import nearest

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = "\ufeff"
_LOOKED_AT: Final = 4096
"""Bytes at a file's beginning that tell UTF-16 without a byte order mark."""


class CorpusError(ValueError):
    """Text that can not be read at all; the message names the file, what is wrong and what to do."""


def normalise(text: str) -> str:
    """Fold what does not make a sentence another one: compatibility forms (NFKC), case, white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def without_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which no encoding can write, by U+FFFD; whole pairs become their character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_lines(path: Path) -> tuple[list[str], NDArray[np.bool_]]:
    r"""Read a file's lines and, for each, whether its bytes are UTF-8.

    Only ``\n`` ends a line (U+2028, U+0085 or a form feed inside a sentence do not), one trailing ``\r`` and a byte
    order mark at the start of a file are dropped. Bytes that are no UTF-8 become U+FFFD. The file may be compressed
    with gzip, whatever it is called.

    Raises:
        CorpusError: A missing, empty or damaged file, one in UTF-16 or UTF-32 or with old line ends, or a folder.
    """
    content = _read_bytes(path)
    if not content:
        raise CorpusError(f"{path} is empty: it must hold one example a line; check how the file was made")
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the former begins like UTF-16
        raise CorpusError(f"{path} is UTF-32; convert it to UTF-8: iconv -f UTF-32 -t UTF-8")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(f"{path} is UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8")
    beginning = content[:_LOOKED_AT]
    if beginning.count(0) > len(beginning) / 4:  # in UTF-8 a zero is a control character
        form = "UTF-16LE" if beginning[1::2].count(0) > beginning[::2].count(0) else "UTF-16BE"
        raise CorpusError(f"{path} looks like {form}; convert it to UTF-8: iconv -f {form} -t UTF-8")
    if b"\n" not in content and b"\r" in content.removesuffix(b"\r"):
        raise CorpusError(f"{path} ends its lines with a carriage return alone; convert it: tr '\\r' '\\n'")
    raw = content.removesuffix(b"\n").split(b"\n")
    lines: list[str] = []
    decodable = np.ones(len(raw), dtype=bool)
    for number, line in enumerate(raw):
        try:
            lines.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError:
            lines.append(line.removesuffix(b"\r").decode(errors="replace"))
            decodable[number] = False
    lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
    return lines, decodable


def _read_bytes(path: Path) -> bytes:
    """Read a file, unpacked when it is gzip."""
    if path.is_dir():
        raise CorpusError(f"{path} is a folder: name the file in it that holds the text")
    if not path.exists():
        neighbours = sorted(other.name for other in path.parent.glob("*") if other.is_file())
        near = nearest(path.name, neighbours)
        hint = f"; the nearest name there is {near}" if near else ""
        raise CorpusError(f"{path} does not exist{hint}: correct the path")
    content = path.read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path} is a damaged gzip file ({error}): fetch or compress it again") from error
