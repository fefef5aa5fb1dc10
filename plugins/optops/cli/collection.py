"""What `optops gc` may remove: folders of this machine, and runs and candidates in MLflow that nothing refers to."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow import MlflowException
from mlflow.entities import LifecycleStage, LoggedModel, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from optops.cli.console import CommandError
from optops.cli.records import FROM_TAG, PARENT_TAG, RUN_TAG, all_found, all_runs
from optops.home import lock_if_free, subfolder
from optops.passwords import without_password
from optops.registry import ARTIFACT_TAG
from optops.tracking import KEY_TAG, MODEL_TYPE, STAGE_TAG, Tracking

DAY = 86_400.0
FORGOTTEN_TAG = "optops.forgotten_key"
ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Garbage:
    """Something that nothing needs.

    Attributes:
        name: What it is.
        reason: Why it may go.
        size: Bytes that it takes.
        remove: Removes it; returns False if it turned out to be in use.
    """

    name: str
    reason: str
    size: int
    remove: Callable[[], bool]


# This machine


def local_garbage(days: int) -> Iterator[Garbage]:
    """Gives work folders, copies of artifacts and logs that nobody used for so many days."""
    now = time.time()
    for path in sorted(subfolder("work").iterdir()):
        age = (now - _newest(path)) / DAY
        if age > days:
            reason = f"work folder of a stage that never finished, untouched for {age:.0f} days"
            yield Garbage(str(path), reason, _size(path), partial(_remove, path, path.name, _newest, days))
    for path in sorted(subfolder("artifacts").iterdir()):
        age = (now - _used(path)) / DAY
        limit = 1 if path.name.startswith("partial-") else days
        if age > limit:
            lock = f"artifact-{path.name[:16]}"
            reason = f"copy of an artifact, last used {age:.0f} days ago; fetched again when needed"
            yield Garbage(str(path), reason, _size(path), partial(_remove, path, lock, _used, limit))
    for path in sorted(subfolder("logs").iterdir()):
        age = (now - _used(path)) / DAY
        if age > days:
            reason = f"log, {age:.0f} days old"
            yield Garbage(str(path), reason, _size(path), partial(_remove, path, "logs", _used, days))


def _newest(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        # Whoever took something away meanwhile is at work.
        return time.time()


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file())
    return 0


def _remove(path: Path, lock: str, used: Callable[[Path], float], days: int) -> bool:
    # A stage whose result is cached holds the lock of its key while it works. None of the others leaves its files alone
    # for days.
    with lock_if_free(lock) as held:
        # A run may have taken it up since it was listed.
        if not held or (time.time() - used(path)) / DAY <= days:
            return False
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return True


# MLflow


def store_garbage(tracking: Tracking, days: int) -> Iterator[Garbage]:
    """Gives stage runs of runs that failed or were superseded long ago, and candidates of these and of deleted runs."""
    listed = int(time.time() * 1000)
    oldest = listed - days * DAY * 1000
    parents = {run.info.run_id: run for run in all_runs(tracking, f"tags.`{RUN_TAG}` LIKE '%'")}
    children = {run.info.run_id: run for run in all_runs(tracking, f"tags.`{STAGE_TAG}` LIKE '%'")}
    ever = all_runs(tracking, f"tags.`{RUN_TAG}` LIKE '%'", ViewType.ALL)
    models = list(_models(tracking, {run.info.experiment_id for run in ever}))
    versions = list(all_found(tracking.client.search_model_versions))
    protected = _protected_models(tracking, versions, models)
    made = {str(one.source_run_id) for one in models if one.model_id in protected} | {v.run_id for v in versions}
    evidence = {version.tags.get(RUN_TAG, "") for version in versions}
    evidence |= {_whole_of(children[run_id]) for run_id in made & children.keys()}
    kept = _kept_runs(parents, children, evidence, oldest)
    # Others may keep models in the same experiment, and a stage may have begun since its runs were listed.
    made_here = (children.keys() - kept) | _deleted_runs(tracking, models, children.keys() | kept, oldest)
    for model in models:
        if model.source_run_id in made_here and model.model_id not in protected:
            repository = get_artifact_repository(model.artifact_location)
            name = f"candidate {model.name} ({model.model_id})"
            yield Garbage(
                name,
                "no run that is kept made it, no registered version refers to it",
                _stored_size(repository),
                partial(_delete_model, tracking, model, repository, listed),
            )
    for run in (*children.values(), *parents.values()):
        if run.info.run_id not in kept:
            repository = get_artifact_repository(run.info.artifact_uri)
            yield Garbage(
                f"run {run.info.run_name} ({run.info.run_id})",
                f"{run.info.status.lower()}, older than {days} days, superseded, no registered version refers to it",
                _stored_size(repository),
                partial(_delete_run, tracking, run, repository, listed),
            )


def _models(tracking: Tracking, experiments: Iterable[str]) -> Iterator[LoggedModel]:
    listed = list(experiments)
    if listed:
        yield from all_found(tracking.client.search_logged_models, experiment_ids=listed, max_results=50)


def _protected_models(tracking: Tracking, versions: list[ModelVersion], models: list[LoggedModel]) -> set[str]:
    """Returns the ids of models that a registered version stands on: itself, its candidate, and their lineage."""
    by_place = {model.artifact_location: model.model_id for model in models}
    by_key: dict[str, list[str]] = {}
    for model in models:
        if key := model.tags.get(KEY_TAG):
            by_key.setdefault(key, []).append(model.model_id)
    parents = {model.model_id: model.params.get("parents", "").split(", ") for model in models}
    protected: set[str] = set()
    todo = [model_id for version in versions for model_id in _models_of(tracking, version, by_place)]
    while todo:
        model_id = todo.pop()
        if model_id not in protected:
            protected.add(model_id)
            todo += [ancestor for key in parents.get(model_id, ()) for ancestor in by_key.get(key, ())]
    return protected


def _models_of(tracking: Tracking, version: ModelVersion, by_place: dict[str, str]) -> Iterator[str]:
    for uri in (version.source, version.tags.get(ARTIFACT_TAG)):
        scheme, _, named = str(uri).partition(":/")
        if scheme == "models" and "/" in named:
            # Copied from another version, which may be gone; the files stay where they were.
            yield by_place.get(tracking.client.get_model_version_download_uri(version.name, version.version), "")
        elif scheme == "models":
            yield named


def _kept_runs(parents: dict[str, Run], children: dict[str, Run], evidence: set[str], oldest: float) -> set[str]:
    """Returns the ids of runs that stay: whole ones, and what these took over from others.

    Whole are those with something young or unfinished in them, the newest finished one of each recipe, and `evidence`.
    """
    runs, now = {**parents, **children}, time.time() * 1000
    whole = evidence | {
        _whole_of(run) for run in runs.values() if run.info.status not in ENDED or (run.info.end_time or now) > oldest
    }
    newest: dict[tuple[str, str], Run] = {}
    for run in sorted(parents.values(), key=lambda run: int(run.info.start_time)):
        if run.info.status == "FINISHED":
            newest[run.info.experiment_id, run.data.params.get("recipe", "")] = run
    whole |= {run.info.run_id for run in newest.values()}
    kept = {run_id for run_id, run in runs.items() if _whole_of(run) in whole}
    taken_over = {children[run_id].data.tags.get(FROM_TAG, "") for run_id in kept & children.keys()}
    # A stage's run would be nowhere without its parent.
    return kept | taken_over | {_whole_of(children[run_id]) for run_id in taken_over & children.keys()}


def _whole_of(run: Run) -> str:
    """Returns the id of the run that a stage's run is part of; its own for a parent."""
    return str(run.data.tags.get(PARENT_TAG) or run.info.run_id)


def _deleted_runs(tracking: Tracking, models: list[LoggedModel], known: set[str], oldest: float) -> set[str]:
    """Returns the runs that made candidates long ago and were deleted, as one can on MLflow's pages."""
    made = {str(m.source_run_id) for m in models if m.model_type == MODEL_TYPE and m.creation_timestamp < oldest}
    return {run_id for run_id in made - known if _is_deleted(tracking, run_id)}


def _is_deleted(tracking: Tracking, run_id: str) -> bool:
    try:
        return bool(tracking.client.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        # For good: `mlflow gc` was there.
        return True


def _stored_size(repository: ArtifactRepository, path: str | None = None) -> int:
    files = repository.list_artifacts(path)
    return sum(_stored_size(repository, file.path) if file.is_dir else file.file_size or 0 for file in files)


def _was_taken_over(tracking: Tracking, run_id: str, since: int) -> bool:
    """Returns whether a run that started since a moment, in milliseconds, took over what another one had made."""
    return any(all_runs(tracking, f"tags.`{FROM_TAG}` = '{run_id}' and attributes.start_time >= {since}"))


def _delete_model(tracking: Tracking, model: LoggedModel, repository: ArtifactRepository, listed: int) -> bool:
    if _was_taken_over(tracking, str(model.source_run_id), listed):
        return False
    # First from the store's records: a candidate without files must not be found.
    tracking.client.delete_logged_model(model.model_id)
    repository.delete_artifacts()
    return True


def _delete_run(tracking: Tracking, run: Run, repository: ArtifactRepository, listed: int) -> bool:
    if _was_taken_over(tracking, run.info.run_id, listed):
        return False
    tracking.client.delete_run(run.info.run_id)
    repository.delete_artifacts()
    return True


def forget_result(tracking: Tracking, name: str, *, dry_run: bool) -> list[str]:
    """Makes a cached result unfindable, and with it every result that hands on what it made.

    Args:
        tracking: The connection to MLflow.
        name: A key, or the URI of an artifact (`models:/m-...` or `runs:/...`).
        dry_run: Only say what would be forgotten.

    Returns:
        Lines for people.

    Raises:
        CommandError: If there is no such result.
    """
    finished = [
        run
        for run in all_runs(tracking, f"tags.`{KEY_TAG}` LIKE '%-%' and attributes.status = 'FINISHED'")
        if not run.data.tags.get(FROM_TAG)
    ]
    made_by = _run_of(tracking, name)
    wanted = {r.info.run_id for r in finished if r.data.tags[KEY_TAG] == name or r.info.run_id == made_by}
    if not wanted:
        store = without_password(tracking.uri)
        raise CommandError(f"{name!r} is the key of no cached result in {store}; `optops show RUN` lists keys")
    models = [m for m in _models(tracking, {run.info.experiment_id for run in finished}) if m.source_run_id in wanted]
    uris = {*(f"models:/{model.model_id}" for model in models), *(f"runs:/{run_id}/" for run_id in wanted)}
    lines = []
    for run in finished:
        if run.info.run_id in wanted or _hands_on(tracking, run, uris):
            lines.append(f"{'would forget' if dry_run else 'forgot'} {run.data.tags[KEY_TAG]} ({run.info.run_name})")
            if not dry_run:
                tracking.client.set_tag(run.info.run_id, FORGOTTEN_TAG, run.data.tags[KEY_TAG])
                tracking.client.set_tag(run.info.run_id, KEY_TAG, "")
    return lines


def _run_of(tracking: Tracking, uri: str) -> str | None:
    if uri.startswith("models:/m-"):
        return str(tracking.client.get_logged_model(uri.removeprefix("models:/")).source_run_id)
    return uri.removeprefix("runs:/").partition("/")[0] if uri.startswith("runs:/") else None


def _hands_on(tracking: Tracking, run: Run, uris: set[str]) -> bool:
    try:
        result = tracking.load_result(run.info.run_id)
    except Exception:  # noqa: BLE001 - a result that can not be read is not taken over either
        return False
    held = {*(c.artifact.uri for c in result.candidates), *(m.artifact.uri for m in result.manifests.values())}
    return any(uri.startswith(tuple(uris)) for uri in held)
