"""An Airflow of our own: alone in its home, and reached without a proxy."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from optops.home import file_lock
from optops.services.airflow import Airflow, Client, running_airflow
from optops.services.processes import HOST, ServiceError, without_proxy

HEALTHY = {part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")}


class Server(ThreadingHTTPServer):
    """Plays the API server: answers everything with `answer`."""

    answer: Any = HEALTHY
    tokens = 0
    password = "secret"


class Handler(BaseHTTPRequestHandler):
    """Knows the newest token alone."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == f"Bearer {self.server.tokens}"
        self.respond(200 if known or not self.server.tokens else 401, self.server.answer)

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if given["password"] != self.server.password:
            self.respond(401, {"detail": "Invalid credentials"})
            return
        self.server.tokens += 1
        self.respond(201, {"access_token": str(self.server.tokens)})

    def respond(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        del arguments


@pytest.fixture
def server() -> Iterator[Server]:
    with Server((HOST, 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Airflow:
    """An Airflow that the server plays, on a machine that must ask a proxy, which is dead."""
    monkeypatch.setenv("OPTOPS_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Airflow(tmp_path / "dags", server.server_address[1])


def test_a_second_airflow_in_one_home_is_refused_before_it_touches_anything(airflow: Airflow) -> None:
    with (
        file_lock("airflow"),
        pytest.raises(ServiceError, match=rf"has its Airflow in {airflow.home}; end it, or set OPTOPS_HOME"),
        running_airflow(airflow, lambda line: None),
    ):
        pass
    assert list(airflow.home.iterdir()) == []


def test_its_api_is_called_without_the_proxy_of_the_environment(airflow: Airflow) -> None:
    assert Client(airflow).is_healthy()


def test_a_log_in_that_is_refused_says_what_airflow_said(airflow: Airflow) -> None:
    airflow.home.joinpath("passwords.json").write_text('{"admin": "wrong"}', encoding="utf-8")
    with pytest.raises(ServiceError, match=r"Airflow refused POST /auth/token: 401 .*Invalid credentials"):
        Client(airflow).log_in()


@pytest.mark.parametrize("answer", [{"detail": "Bad gateway"}, {**HEALTHY, "scheduler": {"status": None}}])
def test_it_is_not_up_while_a_part_is_missing(airflow: Airflow, server: Server, answer: dict[str, Any]) -> None:
    server.answer = answer
    assert not Client(airflow).is_healthy()


def test_its_processes_ask_no_proxy_for_this_machine(airflow: Airflow) -> None:
    environment = airflow.environment()
    assert environment["no_proxy"] == environment["NO_PROXY"] == f"{HOST},localhost"
    assert environment["HTTP_PROXY"]


def test_what_is_spared_a_proxy_already_stays_so() -> None:
    assert without_proxy({"NO_PROXY": "mlflow,.corp"})["no_proxy"] == f"mlflow,.corp,{HOST},localhost"
    assert without_proxy({"no_proxy": "*"})["NO_PROXY"] == "*"


def test_who_follows_a_run_longer_than_a_token_lives_logs_in_again(airflow: Airflow, server: Server) -> None:
    (airflow.home / "passwords.json").write_text(json.dumps({"admin": "secret"}), encoding="utf-8")
    with closing(Client(airflow)) as client:
        client.log_in()
        server.tokens += 1  # the one that the client has is of yesterday
        assert client.call("GET", "dags") == HEALTHY


def test_a_password_is_there_whole_or_not_at_all(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            airflow.prepare()
    (airflow.home / "migrated").write_text(version("apache-airflow"), encoding="utf-8")
    airflow.prepare()
    assert len(airflow.password) == 16
    assert (airflow.home / "passwords.json").stat().st_mode & 0o777 == 0o600


def test_its_processes_take_no_module_from_where_it_was_started(airflow: Airflow) -> None:
    assert airflow.environment()["PYTHONSAFEPATH"] == "1"
