"""Reads YOLO text: a line `class cx cy width height` for each box, in shares of the image's sides."""

from collections.abc import Sequence
from pathlib import Path

from optops.workloads.detection.annotation import Annotation, FaultyValueError, number
from optops.workloads.detection.boxes import Box
from optops.workloads.images import ImageError, image_size, is_file

SIZE_LIMIT = 16 << 20
FIELDS = ("class", "cx", "cy", "width", "height")


def read_yolo(path: Path, image: Path, classes: Sequence[str]) -> Annotation:
    """Returns what a text file says, in pixels of its image; what is wrong becomes a fault.

    Args:
        path: The text file; one that is not there, or empty, labels an image without objects.
        image: Gives the size.
        classes: Names, by number; a number beyond them becomes a name that is none of them.
    """
    if not is_file(path):
        return Annotation()
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise FaultyValueError(f"the file has {path.stat().st_size:,} bytes, more than {SIZE_LIMIT:,}")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, FaultyValueError) as error:
        return Annotation(faults=(str(error),))
    try:
        size = image_size(image)
    except ImageError:
        # Another check names the image; its boxes stay to be counted.
        size = (1, 1)
    boxes: list[Box] = []
    faults: list[str] = []
    for index, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            boxes.append(_box(line.split(), size, classes))
        except FaultyValueError as error:
            faults.append(f"line {index}: {error}")
    return Annotation(tuple(boxes), tuple(faults))


def _box(fields: Sequence[str], size: tuple[int, int], classes: Sequence[str]) -> Box:
    if len(fields) != len(FIELDS):
        raise FaultyValueError(f"{len(fields)} fields; expected {len(FIELDS)}: {' '.join(FIELDS)}")
    values = [number(text, name) for text, name in zip(fields, FIELDS, strict=True)]
    if values[0] != int(values[0]) or values[0] < 0:
        raise FaultyValueError(f"class is {fields[0]}; expected the number of a class, from 0")
    index = int(values[0])
    label = classes[index] if index < len(classes) else f"class {index}"
    x, y, width, height = (value * size[axis % 2] for axis, value in enumerate(values[1:]))
    # Of what was written with six decimals, an edge can come out a hair beyond the image's.
    left, top, right, bottom = (round(v, 3) for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return Box(label, left, top, right, bottom)
