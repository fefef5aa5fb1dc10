"""Runs a recipe's DAG for real, with a scheduler of our own, and tells what its tasks do while they do it."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optops.home import subfolder
from optops.recipe_file import read_recipe
from optops.services.airflow import USER, USUAL_PORT, Airflow, Client, running_airflow
from optops.services.processes import SHOWN_LINES, Report, Service, ServiceError, choose_port, wait_until

FINISHED = frozenset({"success", "failed"})
QUIET_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""How long a run is followed on although Airflow refuses to tell of it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a DAG run.

    Attributes:
        run_id: Airflow's id of the run.
        state: `success` or `failed`.
        tasks: Task to state; the third item of a mapped task is `fuse[2]`.
        summary: What `close_run` summed up, in Markdown; empty if the run did not get that far.
    """

    run_id: str
    state: str
    tasks: Mapping[str, str]
    summary: str


def run_dag(
    recipe: Path, conf: Mapping[str, Any], report: Report, *, port: int | None = None, dags: Path | None = None
) -> Outcome:
    """Runs a recipe's DAG.

    Args:
        recipe: Path of the recipe.
        conf: Parameters of the run, as the form has them.
        report: Takes a line for people.
        port: Of Airflow's pages; the next free one from 8080 if None.
        dags: The folder with the recipe's DAG file; one is made if None.

    Raises:
        RecipeError: If the recipe can not be used.
        ServiceError: If Airflow does not start or refuses.
    """
    dag_id = read_recipe(recipe).name
    if dags is None:
        dags = subfolder("airflow", "dags", dag_id)
        (dags / "recipe.py").write_text(dag_file(recipe), encoding="utf-8")
    airflow = Airflow(dags, choose_port(port, USUAL_PORT))
    started = datetime.now(UTC)
    with running_airflow(airflow, report) as (client, services):
        wait_until(lambda: _is_parsed(client, dag_id, started), services, f"DAG {dag_id}")
        client.call("PATCH", f"dags/{dag_id}", {"is_paused": False})
        run = client.call("POST", f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf)})
        page = f"{airflow.url}/dags/{dag_id}/runs/{run['dag_run_id']}"
        report(f"watch it at {page} (user {USER}, password {airflow.password})")
        return _follow(client, services, f"dags/{dag_id}/dagRuns/{run['dag_run_id']}", report)


def dag_file(recipe: Path) -> str:
    """Returns the text of a DAG file for a recipe anywhere on this machine."""
    return (
        f'"""The Airflow dag of {recipe.name}."""\n\n'
        "from optops.dag import recipe_dag\n\n"
        f"dag = recipe_dag({str(recipe.absolute())!r})\n"
    )


def _is_parsed(client: Client, dag_id: str, started: datetime) -> bool:
    for error in client.call("GET", "importErrors?limit=1000")["import_errors"]:
        # Those of an earlier Airflow stay until the file is parsed anew; it may be mended since.
        if datetime.fromisoformat(error["timestamp"]) >= started:
            raise ServiceError(f"{error['filename']}: {error['stack_trace']}")
    return any(dag["dag_id"] == dag_id for dag in client.call("GET", "dags?limit=1000")["dags"])


def _follow(client: Client, services: Sequence[Service], path: str, report: Report) -> Outcome:
    before: dict[str, str] = {}
    told, told_at = "", time.monotonic()
    answered = time.monotonic()
    while True:
        for service in services:
            service.check()
        try:
            run = client.call("GET", path)
            tasks = client.call("GET", f"{path}/taskInstances?limit=1000&order_by=start_date")["task_instances"]
        except ServiceError:
            # A database that is locked for a moment must not end the run.
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
            time.sleep(1)
            continue
        answered = time.monotonic()
        states = {_label(task): task["state"] or "none" for task in tasks}
        for task in tasks:
            if states[_label(task)] != before.get(_label(task)):
                _report_change(client, path, task, report)
                told_at = time.monotonic()
        if time.monotonic() - told_at >= QUIET_SECONDS:
            told, told_at = _report_progress(client, path, tasks, told, report), time.monotonic()
        if run["state"] in FINISHED:
            return Outcome(run["dag_run_id"], run["state"], states, _summary(client, path))
        before = states
        time.sleep(1)


def _label(task: Mapping[str, Any]) -> str:
    return task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


def _report_change(client: Client, path: str, task: Mapping[str, Any], report: Report) -> None:
    state = task["state"]
    if state in (None, "scheduled", "queued"):
        return
    # Until a mapped task's item has a name, Airflow gives its number.
    named = task["rendered_map_index"] not in (None, str(task["map_index"]))
    label = f"{_label(task)} {task['rendered_map_index']}" if named else _label(task)
    took = f"  {task['duration']:.0f} s" if task["duration"] and state in FINISHED else ""
    report(f"{time.strftime('%H:%M:%S')}  {state:<15}  {label}{took}")
    if state == "failed":
        with suppress(ServiceError):
            for line in _last_lines(client, path, task):
                report(f"          {line}")


def _report_progress(client: Client, path: str, tasks: Sequence[Mapping[str, Any]], told: str, report: Report) -> str:
    """Says what the running tasks said last, unless that was told already; returns it."""
    said: dict[str, list[str]] = {}
    for task in tasks:
        if task["state"] == "running":
            # A task that has only just started may have no log yet.
            with suppress(ServiceError):
                said[_label(task)] = _last_lines(client, path, task)[-1:]
    now = "\n".join(f"{' ' * 27}{label}: {line}" for label, lines in said.items() for line in lines)
    if now and now != told:
        report(now)
    return now


def _last_lines(client: Client, path: str, task: Mapping[str, Any]) -> list[str]:
    where = f"{path}/taskInstances/{task['task_id']}/logs/{task['try_number']}?map_index={task['map_index']}"
    events = client.call("GET", where)["content"]
    said = [str(event.get("event", "")) for event in events if str(event.get("logger", "")).startswith("airflow.task")]
    return said[-SHOWN_LINES:]


def _summary(client: Client, path: str) -> str:
    try:
        entry = client.call("GET", f"{path}/taskInstances/close_run/xcomEntries/return_value?deserialize=true")
    except ServiceError:
        return ""
    value = entry["value"]
    return str((json.loads(value) if isinstance(value, str) else value)["output"].get("summary", ""))
