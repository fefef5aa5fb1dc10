"""Fingerprint and load of the real host, and the host lock between real processes."""

import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from optops.measurement.host import Fingerprint, host_lock, load

HOLDER = """
import sys, time
from pathlib import Path
from optops.measurement.host import host_lock
with host_lock(exclusive=sys.argv[1] == "exclusive", folder=Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
print("released", flush=True)
"""


def start_holder(kind: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@contextmanager
def holder(kind: str, folder: Path):
    process = start_holder(kind, folder)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class StillHeldError(Exception):
    pass


def give_up(seconds: float) -> None:
    raise StillHeldError


def is_free(folder: Path, *, exclusive: bool) -> bool:
    try:
        with host_lock(exclusive=exclusive, folder=folder, on_wait=give_up):
            return True
    except StillHeldError:
        return False


def test_the_fingerprint_describes_this_host():
    fingerprint = Fingerprint.of_this_host()
    assert fingerprint == Fingerprint.of_this_host()
    assert fingerprint.python == platform.python_version()
    assert 1 <= fingerprint.cores <= os.cpu_count()
    assert fingerprint.memory_bytes > 2**28
    assert fingerprint.cpu_model


def test_the_load_is_a_share_of_the_host():
    measured = load(0.1)
    assert 0 <= measured.others_share <= 1
    assert measured.load_average >= 0


def test_the_load_sees_another_process_at_work():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        assert load(1.0).others_share > 0.3 / os.cpu_count()
    finally:
        busy.kill()
        busy.wait()


def test_shared_holders_share_and_an_exclusive_one_is_kept_out(tmp_path):
    with holder("shared", tmp_path), holder("shared", tmp_path):
        assert is_free(tmp_path, exclusive=False)
        assert not is_free(tmp_path, exclusive=True)
    assert is_free(tmp_path, exclusive=True)


def test_an_exclusive_holder_is_alone(tmp_path):
    with holder("exclusive", tmp_path):
        assert not is_free(tmp_path, exclusive=False)
        assert not is_free(tmp_path, exclusive=True)


def test_the_lock_of_a_killed_holder_is_released(tmp_path):
    with holder("exclusive", tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_free(tmp_path, exclusive=True)


def test_a_waiter_is_told_how_long_it_has_waited_and_then_gets_the_lock(tmp_path):
    waits = []
    with holder("exclusive", tmp_path) as process:

        def release(seconds: float) -> None:
            waits.append(seconds)
            process.stdin.close()

        with host_lock(exclusive=True, folder=tmp_path, on_wait=release):
            assert process.stdout.readline() == "released\n"
    assert waits
    assert waits[0] >= 0


def test_an_exclusive_waiter_is_not_starved_by_later_shared_ones(tmp_path):
    with holder("shared", tmp_path):
        waiter = start_holder("exclusive", tmp_path)
        try:
            deadline = time.monotonic() + 30
            while is_free(tmp_path, exclusive=False):  # until the waiter stands in the queue
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            waiter.kill()
            waiter.communicate()
        assert is_free(tmp_path, exclusive=False)


def test_the_lock_is_released_when_its_body_fails(tmp_path):
    with pytest.raises(KeyError), host_lock(exclusive=True, folder=tmp_path):
        raise KeyError("body")
    assert is_free(tmp_path, exclusive=True)


def test_the_lock_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTOPS_LOCK_FOLDER", str(tmp_path / "locks"))
    with host_lock(exclusive=True):
        assert not is_free(tmp_path / "locks", exclusive=False)


def test_a_lock_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RuntimeError, match="OPTOPS_LOCK_FOLDER"),
        host_lock(exclusive=True, folder=tmp_path / "file" / "locks"),
    ):
        pass
