"""How a run looks while it runs: a live table in a terminal, plain lines elsewhere, all lines in a file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from optops.cli.console import readable_seconds
from optops.driver import APPROVE, PROMOTE, Event, Task
from optops.pipeline import ORDER

MARKS = {
    "waiting": Text("·", "dim"),
    "running": Text("▶", "cyan"),
    "success": Text("✔", "green"),
    "skipped": Text("-", "dim"),
    "failed": Text("✘", "red"),
    "upstream_failed": Text("-", "red"),
}
WORST_FIRST = ("failed", "upstream_failed", "success", "skipped")


class RunLog:
    """Keeps every line of a run in a file.

    Args:
        path: Of the file; lines are appended.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stream: IO[str] = path.open("a", encoding="utf-8")

    def take(self, event: Event) -> None:
        """Writes an event."""
        self._stream.write(f"{time.strftime('%H:%M:%S')} {_line(event)}\n")
        self._stream.flush()

    def close(self) -> None:
        """Closes the file; what its disk had no room for is lost."""
        with suppress(OSError):
            self._stream.close()


class PlainProgress:
    """One line for each event, for logs of a CI system.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console):
        self._console = console

    def __enter__(self) -> Self:
        """Starts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends."""

    def take(self, event: Event) -> None:
        """Shows an event."""
        self._console.print(Text(_line(event)), soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the screen to somebody else for a while; lines need no pause."""
        yield


class LiveProgress:
    """A table of all stages with state, elapsed time and last log line.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console):
        self._console = console
        self._stages = {name: _StageRow() for name in _rows()}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Takes the lower part of the screen."""
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the table as it was last."""
        self._live.stop()

    def take(self, event: Event) -> None:
        """Shows an event in its stage's row; a failure is also written above the table, where it stays."""
        row = self._stages[event.task.partition("[")[0]]
        if event.kind == "started":
            row.start(event.label)
        elif event.kind == "line":
            row.line = event.text
        elif event.outcome is not None:
            row.end(event.outcome)
            if event.outcome.state == "failed":
                self._live.console.print(Text(_line(event), "red"), soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the screen to somebody else for a while."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start(refresh=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), show_header=False, expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for name, row in self._stages.items():
            seconds = row.elapsed
            table.add_row(MARKS[row.state], name, readable_seconds(seconds) if seconds else "", Text(row.text, "dim"))
        return table


class _StageRow:
    def __init__(self) -> None:
        self.line = ""
        self._label = ""
        self._tasks: list[Task] = []
        self._since: float | None = None

    def start(self, label: str) -> None:
        self._since, self._label, self.line = time.monotonic(), label, ""

    def end(self, task: Task) -> None:
        self._tasks.append(task)
        self._since = None
        self.line = task.message or self.line

    @property
    def state(self) -> str:
        if self._since is not None:
            return "running"
        states = {task.state for task in self._tasks}
        return next((state for state in WORST_FIRST if state in states), "waiting")

    @property
    def elapsed(self) -> float:
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return running + sum(task.seconds for task in self._tasks)

    @property
    def text(self) -> str:
        if self._label:
            failed = sum(task.state == "failed" for task in self._tasks)
            items = f"{len(self._tasks)} done" + (f", {failed} failed" if failed else "")
            return f"{items} · {self._label}: {self.line}" if self._since is not None else items
        cached = any(task.result is not None and task.result.cached for task in self._tasks)
        return f"{'cached · ' if cached else ''}{self.line}"


def _rows() -> list[str]:
    before = ORDER.index(PROMOTE)
    return [*ORDER[:before], APPROVE, *ORDER[before:]]


def _line(event: Event) -> str:
    task = event.outcome
    if event.kind == "started":
        return f"{event.task} | started" + (f": {event.label}" if event.label else "")
    if task is None:
        return f"{event.task} | {event.text}"
    if task.state == "upstream_failed":
        return f"{event.task} | did not run"
    cached = ", cached" if task.result is not None and task.result.cached else ""
    why = f": {task.message}" if task.message else ""
    lines = [f"{event.task} | {task.state} after {readable_seconds(task.seconds)}{cached}{why}"]
    return "\n".join([*lines, *(f"{event.task} | {detail}" for detail in task.details)])
