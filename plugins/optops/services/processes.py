"""Processes that run beside this one and end with it, however it ends."""

import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optops.measurement.host import lock_folder, open_shared_file
from optops.runners.guard import guarded

HOST = "127.0.0.1"

START_SECONDS = 180.0
GRACE_SECONDS = 5.0
SHOWN_LINES = 15

Report = Callable[[str], None]
"""Takes a line for people."""


class ServiceError(RuntimeError):
    """A service that did not start or is gone; says which, why, and where its log is."""


@dataclass(frozen=True)
class Service:
    """A process that runs beside this one."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Does nothing while the process runs.

        Raises:
            ServiceError: If it is gone; shows the end of its log.
        """
        status = self.process.poll()
        if status is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
            raise ServiceError("\n".join([f"{self.name} ended with status {status}; its log, {self.log}:", *lines]))


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment with which a process asks no proxy for this machine; httpx asks one for loopback too."""
    spared = environment.get("no_proxy") or environment.get("NO_PROXY")
    if spared != "*":
        spared = ",".join(filter(None, (spared, HOST, "localhost")))
    return {**environment, "no_proxy": spared, "NO_PROXY": spared}


def choose_port(wanted: int | None, usual: int) -> int:
    """Returns a free port on loopback: the one asked for, or else the usual one or the next free.

    Until this process ends no other call on this host returns it: it is minutes until a service listens there.

    Raises:
        ServiceError: If the one asked for is taken.
    """
    if wanted is not None:
        if not (_is_free(wanted) and _claim(wanted)):
            raise ServiceError(f"port {wanted} is taken; choose another, or none to get the next free one")
        return wanted
    for port in range(usual, usual + 100):
        if _is_free(port) and _claim(port):
            return port
    raise ServiceError(f"no free port from {usual} to {usual + 99} on {HOST}")


@contextmanager
def running(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], logs: Path
) -> Iterator[list[Service]]:
    """Runs processes side by side until the block ends; each writes to `logs/NAME.log`."""
    logs.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    services: list[Service] = []
    try:
        for name, command in commands.items():
            log = logs / f"{name}.log"
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    guarded(command, read_end, GRACE_SECONDS),
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    pass_fds=(read_end,),
                    start_new_session=True,
                )
            services.append(Service(name, process, log))
        yield services
    finally:
        os.close(write_end)
        os.close(read_end)
        for service in services:
            service.process.wait()


def wait_until(condition: Callable[[], bool], services: Sequence[Service], what: str) -> None:
    """Waits for a condition while the services run.

    Raises:
        ServiceError: If a service ends, or the condition is not met in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        for service in services:
            service.check()
        if time.monotonic() > deadline:
            logs = ", ".join(str(service.log) for service in services)
            raise ServiceError(f"{what} is not there after {START_SECONDS:.0f} s; see {logs}")
        time.sleep(0.5)


def _claim(port: int) -> bool:
    """Returns whether nobody has claimed the port; the lock that says so is this process's until it ends."""
    descriptor = open_shared_file(lock_folder(), f"port-{port}")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
