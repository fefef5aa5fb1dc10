"""The contract of a runner: it runs one stage somewhere, tells what the stage says, and brings its result back."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from optops.stage_spec import StageResult, StageSpec

LINK_MARK = "::optops::link "

_START_UP_NOISE = re.compile(r"^([IWE]0000 00:00:\d|WARNING: All log messages before absl::InitializeLog)")
"""What TensorFlow's C++ writes before its log level holds: which CPU it is, that there is no GPU."""

OnLine = Callable[[str], None]
"""Takes a line of the stage's log."""

OnLink = Callable[[str, str], None]
"""Takes name and URL of a link that the stage announces while it runs."""


class StageFailed(Exception):  # noqa: N818 - an outcome of a stage, not a fault of the runner
    """A stage that did not deliver.

    Args:
        message: What is wrong, in the stage's own words where it had any.
        details: Further lines for people, for example the offending rows or the last lines of the log.
        retry: Whether running it again may help.
    """

    def __init__(self, message: str, details: Iterable[str] = (), *, retry: bool = False):
        super().__init__(message)
        self.message, self.details, self.retry = message, tuple(details), retry


class Runner(ABC):
    """Runs one stage, once.

    Life cycle: `run` blocks until the stage has ended and calls back while it runs. `stop` may be called at any time,
    from another thread or a signal handler; `run` then ends soon and raises `StageFailed`. A runner whose own process
    dies, however it dies, leaves no stage behind.
    """

    @abstractmethod
    def run(self, spec: StageSpec, on_line: OnLine, on_link: OnLink) -> StageResult:
        """Runs the stage that the spec names.

        Raises:
            StageFailed: If the stage did not deliver a result.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ends the stage and everything that it started; returns at once."""


def deliver(line: str, on_line: OnLine, on_link: OnLink) -> None:
    """Hands a line that a stage wrote to whom it is meant for: `::optops::link NAME URL` announces a link."""
    if _START_UP_NOISE.match(line):
        return
    name, _, url = line.removeprefix(LINK_MARK).partition(" ") if line.startswith(LINK_MARK) else ("", "", "")
    if name and url.strip():
        on_link(name, url.strip())
    else:
        on_line(line)
