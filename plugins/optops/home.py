"""Where optops keeps what belongs to this machine: the embedded MLflow store, work folders, caches and locks."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TextIO

FOLDER = ".optops"


def optops_home() -> Path:
    """Returns `$OPTOPS_HOME`, else the nearest `.optops` at or above the working directory, else `~/.optops`, made."""
    home = Path(os.environ.get("OPTOPS_HOME") or _nearest() or Path.home() / FOLDER).expanduser().resolve()
    home.mkdir(parents=True, exist_ok=True)
    return home


def _nearest() -> Path | None:
    # A working directory may be deleted, or closed to this user.
    with suppress(OSError):
        here = Path.cwd()
        for path in (folder / FOLDER for folder in (here, *here.parents)):
            # Only this user's own: in a shared folder, nobody else's models and results are taken up.
            if path.is_dir() and path.lstat().st_uid == os.getuid():
                return path
    return None


def subfolder(*parts: str) -> Path:
    """Returns a folder below `optops_home`, made if need be."""
    folder = optops_home().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def file_lock(name: str, on_wait: Callable[[float], None] | None = None) -> Iterator[None]:
    """Holds a lock among processes of this machine; a killed process lets go of it.

    Args:
        name: Names the lock; a file name.
        on_wait: Called every few seconds with the seconds waited so far.
    """
    with _lock_file(name) as stream:
        started = told = monotonic()
        while not _takes(stream):
            if on_wait and monotonic() - told > 5:
                told = monotonic()
                on_wait(told - started)
            sleep(0.2)
        yield


@contextmanager
def lock_if_free(name: str) -> Iterator[bool]:
    """Holds the lock of `file_lock` and gives True, or gives False at once if another process holds it."""
    with _lock_file(name) as stream:
        yield _takes(stream)


def _lock_file(name: str) -> TextIO:
    return (subfolder("locks") / f"{name}.lock").open("w")


def _takes(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
