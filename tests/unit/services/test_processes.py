"""Processes beside this one: ports, logs, death, and that none stays behind."""

import os
import socket
import subprocess
import sys
import time

import pytest

from optops.services.processes import HOST, ServiceError, choose_port, running, wait_until

SLEEP = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"]


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(taken_port):
    with pytest.raises(ServiceError, match=f"port {taken_port} is taken"):
        choose_port(taken_port, 8080)


def test_a_usual_port_that_is_taken_gives_way_to_the_next_free_one(taken_port):
    assert taken_port < choose_port(None, taken_port) < taken_port + 100


def test_a_port_that_was_given_to_somebody_who_does_not_listen_yet_is_not_given_again(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTOPS_LOCK_FOLDER", str(tmp_path))
    code = "import sys; from optops.services.processes import choose_port; print(choose_port(None, 40_000), flush=True)"
    command = [sys.executable, "-c", f"{code}; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        given = int(other.stdout.readline())
        with pytest.raises(ServiceError, match=f"port {given} is taken"):
            choose_port(given, 40_000)
        assert choose_port(None, given) > given
        other.stdin.close()
        other.wait()
    assert choose_port(given, 40_000) == given


def test_processes_run_until_the_block_ends(tmp_path):
    with running({"one": SLEEP, "two": SLEEP}, os.environ, tmp_path) as services:
        wait_until(lambda: all(service.log.read_text().strip() for service in services), services, "a line of each")
        processes = [int(service.log.read_text()) for service in services]
        assert all(map(exists, processes))
    deadline = time.monotonic() + 10
    while any(map(exists, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(exists, processes))


def test_a_process_that_ends_too_early_is_reported_with_the_end_of_its_log(tmp_path):
    dying = [sys.executable, "-c", "print('no memory left'); raise SystemExit(4)"]
    with (
        running({"frail": dying}, os.environ, tmp_path) as services,
        pytest.raises(ServiceError, match=r"(?s)frail ended with status 4.*no memory left"),
    ):
        wait_until(lambda: False, services, "something")
