"""An Airflow of our own: alone in its home, and reached without a proxy."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(self.server.answer).encode()
        self.send_response(200)
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
    # The server knows no POST.
    with pytest.raises(ServiceError, match="Airflow refused POST /auth/token: 501"):
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
