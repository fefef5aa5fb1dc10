"""What any format of annotations says of one image."""

import math
from dataclasses import dataclass
from typing import Any

from optops.workloads.detection.boxes import Box


class FaultyValueError(ValueError):
    """A value in an annotation that is not what it should be; says what it is."""


@dataclass(frozen=True)
class Annotation:
    """The labels of one image.

    Attributes:
        boxes: In the order of the file.
        faults: What could not be read, one sentence each.
        width: Of the image as the annotation says, in pixels; 0 if it does not.
        height: Likewise.
    """

    boxes: tuple[Box, ...] = ()
    faults: tuple[str, ...] = ()
    width: int = 0
    height: int = 0


def number(value: Any, name: str) -> float:
    """Returns a finite number.

    Raises:
        FaultyValueError: If it is none; names it.
    """
    if value is None or isinstance(value, bool):
        raise FaultyValueError(f"{name} is {'missing' if value is None else repr(value)}")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise FaultyValueError(f"{name} is {value!r:.40}, which is no number") from None
    if not math.isfinite(found):
        raise FaultyValueError(f"{name} is {found}")
    return found
