"""The pages of Airflow and MLflow, until Ctrl-C."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from optops.home import subfolder
from optops.services.airflow import USER, Airflow, running_airflow
from optops.services.airflow import USUAL_PORT as AIRFLOW_PORT
from optops.services.processes import HOST, Report, Service, choose_port, running, wait_until

MLFLOW_PORT = 5000


def ui(dags: Path, report: Report, *, airflow_port: int | None = None, mlflow_port: int | None = None) -> None:
    """Runs Airflow and MLflow until Ctrl-C; where `MLFLOW_TRACKING_URI` names a server, Airflow alone.

    Args:
        dags: The folder of DAG files.
        report: Takes a line for people.
        airflow_port: The next free one from 8080 if None.
        mlflow_port: The next free one from 5000 if None.

    Raises:
        ServiceError: If a port is taken, or one of them does not start or ends.
    """
    airflow = Airflow(dags, choose_port(airflow_port, AIRFLOW_PORT))
    try:
        with ExitStack() as stack:
            mlflow_url, mlflow = _start_mlflow(stack, mlflow_port)
            # The stages' links must lead to where MLflow is now.
            os.environ["OPTOPS_MLFLOW_URL"] = mlflow_url
            _, services = stack.enter_context(running_airflow(airflow, report))
            if mlflow:  # a server elsewhere has a proxy or a login in front of it, maybe
                wait_until(lambda: _answers(mlflow_url), mlflow, f"MLflow at {mlflow_url}")
            report(f"Airflow: {airflow.url}  user {USER}, password {airflow.password}")
            report(f"MLflow:  {mlflow_url}")
            report("Ctrl-C ends what was started here.")
            while True:
                for service in (*mlflow, *services):
                    service.check()
                time.sleep(1)
    except KeyboardInterrupt:
        report("stopped")


def _start_mlflow(stack: ExitStack, wanted: int | None) -> tuple[str, list[Service]]:
    from optops.tracking import default_uri, user_interface

    if default_uri().startswith("http"):
        return user_interface(), []
    port = choose_port(wanted, MLFLOW_PORT)
    services = stack.enter_context(
        running({"mlflow": mlflow_command(port)}, mlflow_environment(), subfolder("mlflow", "logs"))
    )
    return f"http://{HOST}:{port}", services


def mlflow_environment() -> dict[str, str]:
    """Returns the environment of `mlflow_command`: it names the store, since every account can read arguments."""
    from optops.tracking import default_uri

    ours = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": default_uri(), "PYTHONSAFEPATH": "1"}
    return {**os.environ, **ours}


def mlflow_command(port: int) -> list[str]:
    """Returns what serves MLflow's pages over `$MLFLOW_BACKEND_STORE_URI`, to this machine's browsers alone."""
    from optops.tracking import default_artifacts

    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--default-artifact-root", default_artifacts(), "--allowed-hosts", f"{HOST}:{port},localhost:{port}"),
    ]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
