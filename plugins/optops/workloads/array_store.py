"""Arrays kept in memory up to a bound, and beyond it in files without a name that are mapped into memory."""

import os
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from optops.home import subfolder

SEGMENT_BYTES = 256 << 20
"""Of one file; a map for each array would be more than a process may have."""
ALIGNMENT = 64

Kind = TypeVar("Kind", bound=np.generic)


class ArrayStore:
    """Keeps arrays that were costly to make; what is beyond the bound is read where a part of it is looked at.

    The system holds as much of the files in memory as there is room for. They vanish with the arrays.

    Args:
        most_bytes: Of arrays that stay in memory in any case; those that come first.
    """

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes
        self._segment = np.empty(0, np.uint8)
        self._used = 0

    def keep(self, array: NDArray[Kind]) -> NDArray[Kind]:
        """Returns an array with the same numbers; they are not to be changed.

        Raises:
            ValueError: If it finds room neither in memory nor on the disk.
        """
        if array.nbytes <= self._free:
            self._free -= array.nbytes
            return array
        if self._used + array.nbytes > len(self._segment):
            self._segment, self._used = _mapped(max(SEGMENT_BYTES, array.nbytes)), 0
        place = self._segment[self._used : self._used + array.nbytes].view(array.dtype).reshape(array.shape)
        place[...] = array
        self._used += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return place


def _mapped(size: int) -> NDArray[Any]:
    folder = subfolder("work")
    try:
        with TemporaryFile(dir=folder) as file:
            # Taken now: a disk that is full when a page is written would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, np.uint8, "r+", shape=(size,)))
    except OSError as error:
        raise ValueError(
            f"the decoded images need another {size / 1e6:.0f} MB in {folder} ({error.strerror}); make room there, "
            "set OPTOPS_HOME to a larger disk, or train on fewer images"
        ) from error
