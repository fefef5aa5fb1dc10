"""Cuts the bytes that a process writes into lines that a log can take, whatever the process writes."""

import re
import time
from collections.abc import Callable, Iterator

LONGEST_LINE = 16_384
PROGRESS_SECONDS = 5.0

_ENDS = re.compile(rb"([\r\n])")


class Lines:
    r"""Collects bytes and gives lines.

    A line longer than the limit is cut, and says so. A line that `\r` overwrites is a progress bar: one of its states
    gets through every few seconds, and the last one always. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(
        self,
        longest: int = LONGEST_LINE,
        progress_seconds: float = PROGRESS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts empty.

        Args:
            longest: Bytes of a line that are kept.
            progress_seconds: Least time between two states of a progress bar.
            clock: Tells the time in seconds.
        """
        self._longest, self._progress_seconds, self._clock = longest, progress_seconds, clock
        self._line = bytearray()
        self._left_out = 0
        self._returned = False
        self._shown = clock()

    def feed(self, data: bytes) -> Iterator[str]:
        """Takes bytes and gives the lines that they complete."""
        for part in _ENDS.split(data):
            if part == b"\n":
                yield self._take()
            elif part == b"\r":
                self._returned = True
            elif part:
                yield from self._overwrite()
                room = self._longest - len(self._line)
                self._line += part[:room]
                self._left_out += max(len(part) - room, 0)

    def close(self) -> Iterator[str]:
        """Gives the last line, if it had no end."""
        if self._line:
            yield self._take()

    def _overwrite(self) -> Iterator[str]:
        # Only what follows `\r` tells a progress bar from a Windows line end.
        if not self._returned:
            return
        if self._line and self._clock() - self._shown >= self._progress_seconds:
            yield self._take()
            self._shown = self._clock()
        self._clear()

    def _take(self) -> str:
        text = self._line.decode("utf-8", errors="replace")
        if self._left_out:
            text += f" ... ({self._left_out} more bytes)"
        self._clear()
        return text

    def _clear(self) -> None:
        self._line.clear()
        self._left_out = 0
        self._returned = False
