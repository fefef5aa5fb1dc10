"""The process that loads one executable, keeps it warm and times its calls: `python -m optops.measurement.worker`."""

import argparse
import ctypes
import gc
import importlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.measurement import messages

# The first call after the other side's is cold, and takes up to twice as long; a call of seconds loses that in itself.
LONG_CALL_SECONDS = 1.0
DEFAULT_LOADER = "optops.runtimes:load_executable"

Tensors = dict[str, NDArray[Any]]
Loader = Callable[[Path, int], Callable[[Tensors], Tensors]]


class Timer:
    """Holds the loaded executable and its inputs, and answers the commands of the parent process.

    Args:
        folder: the executable.
        threads: compute threads it may use.
        loader: dotted name `module:function` of what loads it.
    """

    def __init__(self, folder: Path, threads: int, loader: str) -> None:
        started = time.perf_counter()
        # The clock includes the import of the runtime's library: that is what a cold start costs.
        self._call = _resolve(loader)(folder, threads)
        self._load_seconds = time.perf_counter() - started
        # A runtime's millions of objects live as long as the process: frozen, they do not slow each collection down.
        gc.collect()
        gc.freeze()
        self._memory_after_load = _memory("VmRSS")
        self._inputs: list[Tensors] = []
        self._last_call_seconds = 0.0

    def report(self) -> dict[str, Any]:
        """Seconds the executable took to load, memory after that, and the peak since the process began, in bytes."""
        return {
            "load_seconds": self._load_seconds,
            "memory_after_load_bytes": self._memory_after_load,
            "peak_memory_bytes": _memory("VmHWM"),
        }

    def load_inputs(self, paths: list[str]) -> dict[str, Any]:
        """Reads the inputs of a cell, one call from each .npz file; answers the memory report."""
        self._inputs, self._last_call_seconds = [], 0.0
        for path in paths:
            with np.load(path, allow_pickle=False) as archive:
                self._inputs.append({name: archive[name] for name in archive.files})
        return self.report()

    def run(self, calls: int) -> dict[str, Any]:
        """Times calls one by one, taking the inputs in turn.

        An untimed call comes first, which refills the caches; not where a call takes so long that this is lost in it.

        Args:
            calls: how many to time.

        Returns:
            `nanoseconds`: the duration of each call.

        Raises:
            RuntimeError: no inputs are loaded.
        """
        if not self._inputs:
            raise RuntimeError("no inputs are loaded: send load_inputs before run")
        call, inputs, clock = self._call, self._inputs, time.perf_counter_ns
        durations = [0] * calls
        gc.collect()
        gc.disable()
        try:
            if self._last_call_seconds < LONG_CALL_SECONDS:
                call(inputs[-1])
            for index in range(calls):
                arrays = inputs[index % len(inputs)]
                started = clock()
                call(arrays)
                durations[index] = clock() - started
        finally:
            gc.enable()
        self._last_call_seconds = durations[-1] * 1e-9
        return {"nanoseconds": durations}


def serve(timer: Timer, commands: int, replies: int) -> None:
    """Answers commands until the parent says stop or goes away.

    Args:
        timer: what answers.
        commands: file descriptor of the pipe the parent writes to.
        replies: file descriptor of the pipe it reads from.
    """
    handlers: dict[str, Callable[..., dict[str, Any]]] = {
        "load_inputs": timer.load_inputs,
        "run": timer.run,
        "report": timer.report,
    }
    while (message := messages.receive(commands)) is not None:
        command = message.pop("command")
        if command == "stop":
            return
        try:
            answer: dict[str, Any] = {"result": handlers[command](**message)}
        except Exception:  # noqa: BLE001  the parent decides what an executable's error means
            answer = {"error": traceback.format_exc()}
        messages.send(replies, answer)


def main() -> None:
    """Parses the arguments, loads the executable, says so, and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the executable")
    parser.add_argument("--threads", type=int, required=True, help="compute threads it may use")
    parser.add_argument("--loader", default=DEFAULT_LOADER, help="module:function that loads it")
    parser.add_argument("--commands", type=int, required=True, help="file descriptor to read commands from")
    parser.add_argument("--replies", type=int, required=True, help="file descriptor to write replies to")
    arguments = parser.parse_args()
    for descriptor in (arguments.commands, arguments.replies):
        os.set_inheritable(descriptor, False)
    _die_with_parent()
    timer = Timer(arguments.folder, arguments.threads, arguments.loader)
    messages.send(arguments.replies, {"result": timer.report()})
    serve(timer, arguments.commands, arguments.replies)


def _resolve(dotted: str) -> Loader:
    module, _, function = dotted.partition(":")
    if not function:
        raise ValueError(f"loader {dotted!r} must have the form module:function")
    loader: Loader = getattr(importlib.import_module(module), function)
    return loader


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: timing needs Linux")


def _die_with_parent() -> None:
    # A worker is frozen while it is idle; frozen, it would not see that its parent was killed.
    parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(parent_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
