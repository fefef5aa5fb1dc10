"""Runs a stage in a process of its own on this machine."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Lock
from typing import Any

from optops.runners.base import OnLine, OnLink, Runner, StageFailed, deliver
from optops.runners.guard import guarded
from optops.runners.lines import Lines
from optops.stage_spec import EXIT_FAILED, EXIT_UNREACHABLE, StageResult, StageSpec

STAGE_COMMAND = (sys.executable, "-m", "optops.stages")
GRACE_SECONDS = 10.0
SHOWN_LINES = 20


class SubprocessRunner(Runner):
    """Runs a stage in a process of its own, in its own session, under a guard (see `guard.py`).

    The stage gets this process's environment. Spec and result travel in a private temporary folder.
    """

    def __init__(self, command: Sequence[str] = STAGE_COMMAND, grace_seconds: float = GRACE_SECONDS):
        """Makes a runner for one stage.

        Args:
            command: What runs stages; `NAME --spec FILE --result FILE` is appended. Another interpreter may stand
                here if TensorFlow is installed beside Airflow, not with it: `("/opt/tf/bin/python", "-m",
                "optops.stages")`.
            grace_seconds: How long a stopped stage may take to end by itself.
        """
        self._command = tuple(command)
        self._grace_seconds = grace_seconds
        self._lifeline: int | None = None
        self._stopped = False
        self._lock = Lock()

    def run(self, spec: StageSpec, on_line: OnLine, on_link: OnLink) -> StageResult:
        """Runs the stage that the spec names; see `Runner.run`."""
        with ExitStack() as held:
            try:
                # What a stage leaves there can not keep its result from coming back.
                made = tempfile.TemporaryDirectory(prefix=f"optops-{spec.stage}-", ignore_cleanup_errors=True)
                folder = Path(held.enter_context(made))
                spec_file, result_file = folder / "spec.json", folder / "result.json"
                spec_file.write_text(json.dumps(spec.to_json()), encoding="utf-8")
                process = self._start(
                    [*self._command, spec.stage, "--spec", str(spec_file), "--result", str(result_file)]
                )
            except OSError as error:
                # A full disk, no memory, too many processes or open files: another attempt may find room.
                raise StageFailed(f"{spec.stage} can not be started on this machine: {error}", retry=True) from error
            status, last_lines = self._attend(process, on_line, on_link)
            return self._conclude(spec.stage, status, result_file, last_lines)

    def stop(self) -> None:
        """Ends the stage's process group: SIGTERM, and SIGKILL after the grace; returns at once."""
        self._stopped = True
        self._release()

    def _start(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        read_end, self._lifeline = os.pipe()
        try:
            return subprocess.Popen(
                guarded(command, read_end, self._grace_seconds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._variables(),
                pass_fds=(read_end,),
                start_new_session=True,
            )
        except OSError:
            self._release()
            raise
        finally:
            os.close(read_end)

    def _attend(self, process: "subprocess.Popen[bytes]", on_line: OnLine, on_link: OnLink) -> tuple[int, list[str]]:
        last_lines: deque[str] = deque(maxlen=SHOWN_LINES)

        def take(line: str) -> None:
            last_lines.append(line)
            on_line(line)

        with process:
            try:
                if self._stopped:
                    self._release()
                _follow(process, take, on_link)
            finally:
                self._release()
        return process.returncode, list(last_lines)

    def _release(self) -> None:
        # A signal handler may interrupt this very function, so it must not wait for the lock.
        if not self._lock.acquire(blocking=False):
            return
        try:
            lifeline, self._lifeline = self._lifeline, None
            if lifeline is not None:
                os.close(lifeline)
        finally:
            self._lock.release()

    def _variables(self) -> dict[str, str]:
        fixed = {
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            # `Lines` reads UTF-8, whatever this machine's locale is.
            "PYTHONIOENCODING": "utf-8:backslashreplace",
            # `-m` would look for modules where the run was started first: a user's `random.py` is not Python's.
            "PYTHONSAFEPATH": "1",
        }
        variables = {**os.environ, **fixed}
        if not _is_installed():
            paths = (str(Path(__file__).resolve().parents[2]), variables.get("PYTHONPATH", ""))
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return variables

    def _conclude(self, stage: str, status: int, result_file: Path, last_lines: Sequence[str]) -> StageResult:
        outcome = _read(result_file)
        if status == 0 and outcome is not None and "failed" not in outcome:
            try:
                return StageResult.from_json(outcome)
            except (KeyError, TypeError) as error:
                raise StageFailed(f"{stage} wrote a result that can not be read: {error!r}", last_lines) from None
        if outcome is not None and "failed" in outcome:
            failed = outcome["failed"]
            raise StageFailed(failed["message"], failed.get("details", ()), retry=status == EXIT_UNREACHABLE)
        if self._stopped:
            raise StageFailed(f"{stage} was stopped before it was done", last_lines, retry=True)
        raise _unexplained(stage, status, last_lines)


def _is_installed() -> bool:
    # A package that merely lies in an Airflow home's plugins folder is on Airflow's path, not on the stage's.
    try:
        distribution("optops")
    except PackageNotFoundError:
        return False
    return True


def _follow(process: "subprocess.Popen[bytes]", on_line: OnLine, on_link: OnLink) -> None:
    assert process.stdout is not None
    descriptor, lines = process.stdout.fileno(), Lines()
    while True:
        # A process that left the group may hold the pipe open for ever; the guard's end is the stage's end, and one
        # read takes all that the pipe can hold.
        ended = process.poll() is not None
        readable, _, _ = select.select([descriptor], [], [], 0 if ended else 0.2)
        data = os.read(descriptor, 1 << 20) if readable else b""
        for line in lines.feed(data):
            deliver(line, on_line, on_link)
        if ended or (readable and not data):
            break
    for line in lines.close():
        deliver(line, on_line, on_link)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return data if isinstance(data, dict) else None


def _unexplained(stage: str, status: int, last_lines: Sequence[str]) -> StageFailed:
    # A shell or a handler reports death by signal as 128 + its number.
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        hint = "; the machine may have run out of memory" if number == signal.SIGKILL else ""
        return StageFailed(f"{stage} was killed by {name}{hint}", last_lines, retry=True)
    if status == 0:
        return StageFailed(f"{stage} ended without writing a result", last_lines)
    explained = " without saying why" if status in (EXIT_FAILED, EXIT_UNREACHABLE) else ""
    message = f"{stage} ended with exit status {status}{explained}; the last lines of its log say more"
    return StageFailed(message, last_lines, retry=status == EXIT_UNREACHABLE)
