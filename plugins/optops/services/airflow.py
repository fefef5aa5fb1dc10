"""An Airflow of our own: SQLite, LocalExecutor, scheduler, DAG processor and API server, in `$OPTOPS_HOME/airflow`."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from optops.home import file_lock, optops_home, subfolder
from optops.services.processes import HOST, Report, Service, ServiceError, running, wait_until, without_proxy

USUAL_PORT = 8080
POOL = "optops_cpu"
USER = "admin"
PASSWORDS = "passwords.json"


@dataclass
class Airflow:
    """An Airflow of our own.

    It is isolated: what the surrounding shell says of another Airflow is ignored. One user, `admin`, with a password
    made on first use: loopback is open to everybody on this machine.

    Attributes:
        dags: The folder of DAG files.
        port: Of the API server and the pages.
        home: Its `AIRFLOW_HOME`.
        slots: Slots of the pool that the stages run in; the benchmark takes all.
    """

    dags: Path
    port: int
    home: Path = field(default_factory=lambda: subfolder("airflow"))
    slots: int = field(default_factory=lambda: max(os.cpu_count() or 1, 2))

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://{HOST}:{self.port}"

    @property
    def password(self) -> str:
        """The password of the user `admin`; `prepare` makes it."""
        return str(json.loads((self.home / PASSWORDS).read_text(encoding="utf-8"))[USER])

    def environment(self) -> dict[str, str]:
        """Returns the environment of its processes: this one's without any Airflow settings, and its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        settings = {
            "AIRFLOW_HOME": self.home,
            "AIRFLOW__CORE__DAGS_FOLDER": self.dags.absolute(),
            "AIRFLOW__CORE__PLUGINS_FOLDER": self.home / "plugins",
            "AIRFLOW__CORE__LOAD_EXAMPLES": False,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": 2 * self.slots,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.home / PASSWORDS,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": self.port,
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": 1,
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": 10,
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": 1,
            "AIRFLOW__OPTOPS__POOL": POOL,
            "AIRFLOW__OPTOPS__POOL_SLOTS": self.slots,
            "OPTOPS_HOME": optops_home(),
            "PYTHONSAFEPATH": 1,  # no module from where this was started
        }
        return without_proxy(inherited | {name: str(value) for name, value in settings.items()})

    def commands(self) -> dict[str, list[str]]:
        """Returns the processes that it consists of; no triggerer, for nothing in a recipe's DAG defers."""
        airflow = [sys.executable, "-m", "airflow"]
        return {
            "api-server": [*airflow, "api-server"],
            "scheduler": [*airflow, "scheduler", "--skip-serve-logs"],
            "dag-processor": [*airflow, "dag-processor"],
        }

    def prepare(self) -> None:
        """Makes its password, and makes or migrates its database where this version of Airflow has not done so.

        Raises:
            ServiceError: If Airflow can not.
        """
        path = self.home / PASSWORDS
        if not path.exists():
            # Whole or not at all: a full disk may not leave an empty one for good.
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps({USER: secrets.token_urlsafe(12)}), encoding="utf-8")
            fresh.replace(path)
        done, wanted = self.home / "migrated", version("apache-airflow")
        if done.exists() and done.read_text(encoding="utf-8") == wanted:
            return
        (self.home / "plugins").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        made = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if made.returncode:
            raise ServiceError(f"airflow db migrate failed in {self.home}:\n{made.stdout[-2000:]}{made.stderr[-2000:]}")
        done.write_text(wanted, encoding="utf-8")


class Client:
    """Speaks to the REST API of an Airflow."""

    def __init__(self, airflow: Airflow):
        """Does not connect yet."""
        self._airflow = airflow
        # The API server answers its first calls late: it loads half of Airflow meanwhile.
        self._http = httpx.Client(base_url=airflow.url, timeout=120, trust_env=False)

    def log_in(self) -> None:
        """Gets a token; the following calls use it.

        Raises:
            ServiceError: As for `call`.
        """
        token = self._request("POST", "/auth/token", {"username": USER, "password": self._airflow.password})
        self._http.headers["Authorization"] = f"Bearer {token['access_token']}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Returns the answer's JSON.

        Raises:
            ServiceError: If Airflow refuses, and says what it said, or does not answer.
        """
        return self._request(method, f"/api/v2/{path}", body, again=True)

    def _request(self, method: str, path: str, body: Any, *, again: bool = False) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise ServiceError(f"Airflow at {self._airflow.url} does not answer {method} {path}: {error!r}") from None
        if again and answer.status_code == httpx.codes.UNAUTHORIZED:  # the token of a day ago
            self.log_in()
            return self._request(method, path, body)
        if answer.is_error:
            raise ServiceError(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:1000]}")
        return answer.json() if answer.content else None

    def set_pool(self, name: str, slots: int) -> None:
        """Makes a pool, or gives it another size."""
        pool = {"name": name, "slots": slots, "description": "Stages of optops", "include_deferred": False}
        if any(existing["name"] == name for existing in self.call("GET", "pools?limit=100")["pools"]):
            self.call("PATCH", f"pools/{name}", pool)
        else:
            self.call("POST", "pools", pool)

    def is_healthy(self) -> bool:
        """Returns whether API server, scheduler and DAG processor are up."""
        try:
            health = self._http.get("/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "dag_processor")
        return all(health.get(part, {}).get("status") == "healthy" for part in parts)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()


@contextmanager
def running_airflow(airflow: Airflow, report: Report) -> Iterator[tuple[Client, list[Service]]]:
    """Runs an Airflow until the block ends; gives a client that is logged in, and the processes.

    Raises:
        ServiceError: If another one runs in this home, or if it does not come up.
    """
    with _alone(airflow.home):
        report("starting Airflow")
        started = time.monotonic()
        airflow.prepare()
        logs = airflow.home / "logs" / "services"
        with running(airflow.commands(), airflow.environment(), logs) as services, closing(Client(airflow)) as client:
            wait_until(client.is_healthy, services, f"Airflow at {airflow.url}")
            client.log_in()
            client.set_pool(POOL, airflow.slots)
            report(f"Airflow is up at {airflow.url} ({time.monotonic() - started:.0f} s)")
            yield client, services


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keeps a second Airflow off a database: each would take the other's tasks and look for them in its own DAGs."""

    def refuse(seconds: float) -> None:
        # So long, one that is about to end may take.
        del seconds
        raise ServiceError(
            f"another `optops demo` or `optops ui` has its Airflow in {home}; end it, or set OPTOPS_HOME to another "
            "folder"
        )

    with file_lock("airflow", refuse):
        yield
