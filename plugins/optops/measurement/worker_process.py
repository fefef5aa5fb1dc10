"""The parent's side of a timing worker: starts it with fixed threads, asks it, freezes it while it is idle."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from optops.measurement import messages
from optops.measurement.worker import DEFAULT_LOADER

REPLY_TIMEOUT_SECONDS = 1800.0
STOP_TIMEOUT_SECONDS = 10.0
STDERR_TAIL_CHARACTERS = 4000
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclass(frozen=True)
class Contender:
    """An executable that is timed, and how.

    Args:
        name: how results and errors call it.
        folder: where it lies.
        threads: compute threads it may use, at least 1.
        loader: dotted name `module:function` of what loads it in the worker; the function takes folder and threads, and
            returns a callable from named arrays to named arrays.
    """

    name: str
    folder: Path
    threads: int
    loader: str = DEFAULT_LOADER

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"{self.name}: {self.threads} threads are too few, give at least 1")


@dataclass(frozen=True)
class WorkerReport:
    """What loading and running an executable took.

    Attributes:
        load_seconds: from the import of the runtime to the ready callable.
        memory_after_load_bytes: resident memory of the process when it was ready.
        peak_memory_bytes: its largest resident memory so far (VmHWM), interpreter and runtime included.
    """

    load_seconds: float
    memory_after_load_bytes: int
    peak_memory_bytes: int


class WorkerError(RuntimeError):
    """An executable failed in its worker, or the worker died.

    Args:
        contender: which one.
        message: what happened.
    """

    def __init__(self, contender: Contender, message: str) -> None:
        super().__init__(f"{contender.name} ({contender.folder}): {message}")
        self.contender = contender


class Worker:
    """A warm process with one loaded contender.

    The process is frozen (SIGSTOP) except while it answers, so that no thread of it, spinning or not, takes time from
    whatever is timed next. It is killed by the kernel when the thread that started it ends: create and use a worker in
    one thread.

    Args:
        contender: what to load.
        reply_timeout: seconds to wait for any one answer before the worker is killed.

    Raises:
        WorkerError: the executable can not be loaded.
    """

    def __init__(self, contender: Contender, *, reply_timeout: float = REPLY_TIMEOUT_SECONDS) -> None:
        self.contender = contender
        self._reply_timeout = reply_timeout
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop
        command_reader, self._commands = os.pipe()
        self._replies, reply_writer = os.pipe()
        options = {"folder": contender.folder, "threads": contender.threads, "loader": contender.loader}
        descriptors = {"commands": command_reader, "replies": reply_writer}
        arguments = [part for name, value in (options | descriptors).items() for part in (f"--{name}", str(value))]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "optops.measurement.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,  # what a library prints must not reach the pipe of the replies
                stderr=self._stderr,
                pass_fds=(command_reader, reply_writer),
                env=_environment(contender.threads),
                process_group=0,  # the terminal's Ctrl-C is for the parent
            )
        finally:
            os.close(command_reader)
            os.close(reply_writer)
        try:
            self._answer()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process_id(self) -> int:
        """Id of the worker's process."""
        return self._process.pid

    def load_inputs(self, paths: Sequence[Path]) -> None:
        """Gives the worker the inputs of a benchmark cell.

        Args:
            paths: .npz files, each with one array for each input of one call.

        Raises:
            WorkerError: the file can not be read, or the worker died.
        """
        self._ask("load_inputs", paths=[str(path.absolute()) for path in paths])

    def run(self, calls: int) -> NDArray[np.float64]:
        """Times calls on the loaded inputs, taken in turn, after one that is not timed.

        Args:
            calls: how many to time, at least 1.

        Returns:
            float64 (calls,), seconds.

        Raises:
            WorkerError: a call failed, or the worker died.
        """
        return np.asarray(self._ask("run", calls=calls)["nanoseconds"], dtype=np.float64) * 1e-9

    def report(self) -> WorkerReport:
        """Load time and memory of the executable; raises WorkerError where the worker died."""
        return WorkerReport(**self._ask("report"))

    def stop(self) -> None:
        """Ends the process; does nothing where it has ended."""
        if self._stderr.closed:
            return
        with suppress(OSError):
            self._process.send_signal(signal.SIGCONT)
            messages.send(self._commands, {"command": "stop"})
        os.close(self._commands)
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._replies)
        self._stderr.close()

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        if self._stderr.closed:
            raise WorkerError(self.contender, "its worker has been stopped")
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # a dead worker is reported where its answer is missing
            messages.send(self._commands, {"command": command, **arguments})
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        self._wait_for_reply()
        answer = messages.receive(self._replies)
        if answer is None:
            raise self._death()
        self._freeze()
        if "error" in answer:
            raise WorkerError(self.contender, f"the executable failed\n{answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _wait_for_reply(self) -> None:
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        deadline = time.monotonic() + self._reply_timeout
        while not poll.poll(1000):
            if self._process.poll() is not None:
                raise self._death()
            if time.monotonic() > deadline:
                self._process.kill()
                raise WorkerError(
                    self.contender, f"no answer within {self._reply_timeout:g} s\n{self._stderr_tail()}".rstrip()
                )

    def _freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        if self._process.poll() is None:
            # The signal takes effect a moment later; what comes next may be a timing of another worker.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _death(self) -> WorkerError:
        try:
            code = self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return WorkerError(self.contender, f"its worker died with {cause}{hint}\n{self._stderr_tail()}".rstrip())

    def _stderr_tail(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_TAIL_CHARACTERS))
        return self._stderr.read().decode(errors="replace").strip()


def _environment(threads: int) -> dict[str, str]:
    """Libraries read these while they are imported, so they must be there before the process starts."""
    fixed = dict.fromkeys(THREAD_VARIABLES, str(threads))
    # Airflow puts its plugins folder on sys.path of its own process alone.
    search_path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(PACKAGE_ROOT))))
    # As for stages: no module from where the run was started.
    fixed |= {"PYTHONPATH": search_path, "PYTHONSAFEPATH": "1"}
    return {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **fixed}
