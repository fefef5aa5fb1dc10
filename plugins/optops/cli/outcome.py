"""What `optops run` says at the end: the table, the verdict, where the model is, and how to go on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optops.cli.console import readable_seconds, show_markdown
from optops.driver import CLOSE, OPEN, FlowOutcome, Task

if TYPE_CHECKING:
    from rich.console import Console


def to_json(outcome: FlowOutcome) -> dict[str, Any]:
    """Returns the outcome as plain data."""
    closed = outcome.result(CLOSE)
    candidates = {c.key: c.to_json() for task in outcome.tasks if task.result for c in task.result.candidates}
    return {
        "label": outcome.run.label,
        "experiment": outcome.run.experiment,
        "run_id": outcome.run.run_id,
        "exit_status": outcome.exit_status,
        "interrupted": outcome.interrupted,
        "verdict": outcome.verdict,
        "answer": outcome.answer,
        "promoted": outcome.promoted,
        "tasks": [_task_json(task) for task in outcome.tasks],
        "candidates": list(candidates.values()),
        "summary": closed.output.get("summary", "") if closed else "",
    }


def _task_json(task: Task) -> dict[str, Any]:
    return {
        "task": task.name,
        "label": task.label,
        "state": task.state,
        "seconds": round(task.seconds, 3),
        "key": task.result.key if task.result else "",
        "cached": bool(task.result and task.result.cached),
        "message": task.message,
        "details": list(task.details),
        "dropped": dict(task.result.dropped) if task.result else {},
    }


def show_outcome(console: "Console", outcome: FlowOutcome, log: Path, again: str) -> None:
    """Shows the outcome to people.

    Args:
        console: Where to.
        outcome: Of the run.
        log: File with all lines of the run.
        again: The command that goes on in the same run.
    """
    closed = outcome.result(CLOSE)
    summary = closed.output.get("summary", "") if closed else ""
    console.print()
    if summary:
        show_markdown(console, summary)
    for line in [*_failures(outcome), *_next_steps(outcome, again), *_places(outcome, log)]:
        console.print(line, markup=False, soft_wrap=True)


def _failures(outcome: FlowOutcome) -> list[str]:
    lines = []
    for task in outcome.failed:
        name = f"{task.name} ({task.label})" if task.label else task.name
        lines += [f"{name} failed: {task.message}", *(f"  {detail}" for detail in task.details), ""]
    return lines


def _next_steps(outcome: FlowOutcome, again: str) -> list[str]:
    if outcome.interrupted:
        return [
            "Interrupted. To go on in the same MLflow run (finished stages come from the cache, a training goes on "
            "from its last checkpoint):",
            f"  {again}",
            "",
        ]
    if outcome.failed:
        return ["When the reason is mended, go on in the same MLflow run:", f"  {again}", ""]
    if outcome.answer == "unanswered":
        return [
            "The gate accepted; the version above is the challenger. The recipe wants a person's approval and nobody "
            "could be asked here. To promote it, run in a terminal, or approve in advance (what is not measured comes "
            "from the cache):",
            f"  {again} --yes",
            "",
        ]
    return [*how_to_use(str(outcome.champion["name"])), ""] if outcome.champion else []


def how_to_use(name: str) -> list[str]:
    """Returns how to load, serve and replace the champion of a registered model, in lines for people."""
    from optops.passwords import without_password
    from optops.tracking import default_uri

    store = without_password(default_uri())
    uri = shlex.quote(f"models:/{name}@champion")
    return [
        "Load it in Python:",
        f'  mlflow.set_tracking_uri("{store}")',
        f'  mlflow.pyfunc.load_model("models:/{name}@champion").predict([...])',
        "Serve it over HTTP:",
        f"  MLFLOW_TRACKING_URI={shlex.quote(store)} mlflow models serve -m {uri} --env-manager local",
        "Go back to the champion before it:",
        f"  optops rollback {shlex.quote(name)}",
    ]


def _places(outcome: FlowOutcome, log: Path) -> list[str]:
    opened = outcome.result(OPEN)
    lines = [f"All lines of this run: {log}"]
    if opened:
        lines.append(f"MLflow run: {opened.links.get('mlflow_run', outcome.run.run_id)} (`optops ui` starts the pages)")
        lines.append(f"Again at any time: optops show {outcome.run.run_id}")
    total = sum(task.seconds for task in outcome.tasks)
    return [*lines, f"Took {readable_seconds(total)}, exit status {outcome.exit_status}."]
