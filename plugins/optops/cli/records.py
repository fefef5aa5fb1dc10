"""Reads a run back from MLflow alone: its stages, candidates, speed-ups and verdict."""

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from mlflow import MlflowException
from mlflow.entities import Run, ViewType

from optops.cli.console import CommandError
from optops.passwords import without_password
from optops.pipeline import ORDER
from optops.registry import CHAMPION, RegistryError, version_by_alias
from optops.stage_spec import StageResult
from optops.tracking import KEY_TAG, STAGE_TAG, Tracking
from optops.unreachable import is_unreachable

RUN_TAG, FROM_TAG, PARENT_TAG = "optops.run", "optops.cached_from", "mlflow.parentRunId"
EXPERIMENTS_OF_A_SEARCH = 1000
"""A database takes so many ids in one query."""


def all_found(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """Gives all that one of MLflow's searches finds, page after page."""
    token: str | None = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def all_runs(tracking: Tracking, query: str, view: int = ViewType.ACTIVE_ONLY) -> Iterator[Run]:
    """Gives the runs of all experiments that fit a query, newest first; those that were deleted if `view` says so."""
    experiments = [experiment.experiment_id for experiment in all_found(tracking.client.search_experiments)]
    searches = (
        all_found(
            tracking.client.search_runs,
            experiment_ids=experiments[first : first + EXPERIMENTS_OF_A_SEARCH],
            filter_string=query,
            run_view_type=view,
            max_results=1000,
            order_by=["attributes.start_time DESC"],
        )
        for first in range(0, len(experiments), EXPERIMENTS_OF_A_SEARCH)
    )
    yield from heapq.merge(*searches, key=lambda run: -run.info.start_time)


def find_run(tracking: Tracking, name: str) -> Run:
    """Returns the parent run that a run id, a prefix of one, a label, or a recipe's name (its newest run) names.

    Raises:
        CommandError: If there is none, or a prefix fits several.
    """
    runs = list(all_runs(tracking, f"tags.`{RUN_TAG}` LIKE '%'"))
    named = [run for run in runs if name in (run.info.run_id, run.data.tags[RUN_TAG])]
    recipes_of_label = sorted({run.data.params.get("recipe", "") for run in named})
    if len(recipes_of_label) > 1:
        raise CommandError(
            f"{name!r} is a run of {', '.join(recipes_of_label)} each; give the run id of the one you mean"
        )
    if named:
        return named[0]
    for run in runs:
        if run.data.params.get("recipe") == name:
            return run
    fitting = [run for run in runs if len(name) >= 4 and run.info.run_id.startswith(name)]
    if len(fitting) > 1:
        raise CommandError(f"{name!r} begins {len(fitting)} run ids; give more of the one you mean")
    if fitting:
        return fitting[0]
    try:
        parent = tracking.client.get_run(name).data.tags[PARENT_TAG]
        return tracking.client.get_run(parent)
    except (MlflowException, KeyError):
        recipes = sorted({run.data.params["recipe"] for run in runs if "recipe" in run.data.params})
        known = f"recipes with runs are {', '.join(recipes)}" if recipes else "no recipe was run yet"
        store = without_password(tracking.uri)
        raise CommandError(
            f"{name!r} is no run, prefix of one (4 digits at least), or recipe in {store}; {known}"
        ) from None


def read_record(tracking: Tracking, run: Run) -> dict[str, Any]:
    """Returns what MLflow knows of a parent run, as plain data."""
    children = _children(tracking, run)
    results = {child.info.run_id: _result(tracking, child) for child in children}
    found = [result for result in results.values() if result is not None]
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "recipe": run.data.params.get("recipe", ""),
        "label": run.data.tags[RUN_TAG],
        "metric": _metric(run),
        "status": run.info.status,
        "started": run.info.start_time,
        "seconds": _seconds(run),
        "verdict": _verdict(run, found),
        "url": tracking.run_url(run.info.run_id),
        "stages": [_stage(tracking, child, results[child.info.run_id]) for child in children],
        "candidates": _candidates(found),
        "registered": _registered(tracking, found),
    }


def stage_results(tracking: Tracking, run: Run) -> list[StageResult]:
    """Returns what the stages of a parent run handed on, in the order of the flow; those without a result left out.

    A run that was gone on in has one more child for what it took over from itself: the newest of a key counts.
    """
    results = (_result(tracking, child) for child in _children(tracking, run))
    return list({result.key: result for result in results if result is not None}.values())


def _children(tracking: Tracking, run: Run) -> list[Run]:
    children = list(all_runs(tracking, f"tags.`{PARENT_TAG}` = '{run.info.run_id}'"))
    return sorted(children, key=lambda child: (_order(child), child.info.start_time))


def _metric(run: Run) -> str:
    return str(run.data.params.get("metric", "metric"))


def _order(child: Run) -> int:
    stage = child.data.tags.get(STAGE_TAG, "")
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _result(tracking: Tracking, child: Run) -> StageResult | None:
    try:
        return tracking.load_result(child.data.tags.get(FROM_TAG) or child.info.run_id)
    except (OSError, ValueError, KeyError, TypeError, MlflowException) as error:
        if is_unreachable(error):
            raise
        return None


def _seconds(run: Run) -> float | None:
    return None if run.info.end_time is None else (run.info.end_time - run.info.start_time) / 1000


def _stage(tracking: Tracking, child: Run, result: StageResult | None) -> dict[str, Any]:
    return {
        "stage": child.data.tags.get(STAGE_TAG, ""),
        "name": child.info.run_name,
        "key": child.data.tags.get(KEY_TAG) or (result.key if result else ""),
        "status": child.info.status,
        "seconds": _seconds(child),
        "cached": bool(child.data.tags.get(FROM_TAG)),
        "skipped": result.skipped if result else "",
        "dropped": dict(result.dropped) if result else {},
        "run_id": child.info.run_id,
        "url": tracking.run_url(child.info.run_id),
    }


def _candidates(results: list[StageResult]) -> list[dict[str, Any]]:
    tables = [result.output["table"] for result in results if result.stage == "benchmark"]
    table = tables[-1] if tables else {}
    made = {c.key: c for result in results for c in result.candidates}
    return [
        {
            "key": candidate.key,
            "name": candidate.name,
            "stage": candidate.stage,
            "parents": list(candidate.parents),
            "precision": candidate.precision,
            "runtime": candidate.runtime,
            "metrics": dict(candidate.metrics),
            "artifact": candidate.artifact.uri,
            "cells": {
                cell: {**measured["speedup"], "p50_seconds": measured["latency"]["latency"]["p50"]}
                for cell, measured in table.get(candidate.name, {"cells": {}})["cells"].items()
            },
        }
        for candidate in made.values()
    ]


def _verdict(run: Run, results: list[StageResult]) -> dict[str, str]:
    for result in reversed(results):
        if result.stage == "gate":
            return dict(result.output["verdict"])
    return {"verdict": run.data.tags.get("optops.verdict", "none"), "markdown": ""}


def _registered(tracking: Tracking, results: list[StageResult]) -> dict[str, Any] | None:
    for result in reversed(results):
        if result.stage == "register" and result.output:
            try:
                champion = version_by_alias(tracking.client, result.output["name"], CHAMPION)
            except RegistryError:
                champion = None
            now = champion is not None and champion.version == result.output["version"]
            promoted = any(other.stage == "promote" and not other.skipped for other in results)
            return {
                **result.output,
                "url": result.links.get("model_version", ""),
                "promoted": promoted,
                "champion": now,
            }
    return None
