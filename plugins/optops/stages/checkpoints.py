"""Checkpoints in the artifact store, so that a killed training goes on even on another host."""

import shutil
from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from optops.stages.base import Job

FOLDER = "checkpoints"


def keep(job: Job, checkpoint: Path, name: str) -> None:
    """Puts a complete checkpoint into the run's artifacts and removes those that the trainer no longer needs.

    With it go the others that the trainer needs and the run has not: where this host goes on from what another run
    left here, it has stored none of them.
    """
    needed = {path.name: path for path in checkpoint.parent.glob("epoch-*")}
    stored = {Path(found.path).name: found.path for found in _stored(job, name)}
    # The newest goes last: a host that finds it finds all.
    for folder in (*sorted(needed.keys() - stored.keys() - {checkpoint.name}), checkpoint.name):
        job.tracking.log_folder(job.run_id, needed[folder], f"{FOLDER}/{name}/{folder}")
    for folder in stored.keys() - needed.keys():
        _repository(job).delete_artifacts(stored[folder])


def restore(job: Job, folder: Path, name: str) -> None:
    """Fetches the checkpoints of an earlier attempt from the run's artifacts, if this host has none that are as new."""
    stored = _stored(job, name)
    # The names sort by epoch. This host may have seen but the first attempt, and another one the next.
    newest = max((Path(checkpoint.path).name for checkpoint in stored), default="")
    if newest <= max((checkpoint.name for checkpoint in folder.glob("epoch-*")), default=""):
        return
    below = job.new_folder()
    path = Path(job.tracking.client.download_artifacts(job.run_id, f"{FOLDER}/{name}", str(below)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    path.rename(folder)
    job.log(f"{name}: fetched {len(stored)} checkpoints of an earlier attempt")


def remove(job: Job) -> None:
    """Removes all checkpoints of a finished stage from the run's artifacts."""
    if job.tracking.client.list_artifacts(job.run_id, FOLDER):
        _repository(job).delete_artifacts(FOLDER)


def _stored(job: Job, name: str):  # type: ignore[no-untyped-def]
    return job.tracking.client.list_artifacts(job.run_id, f"{FOLDER}/{name}")


def _repository(job: Job):  # type: ignore[no-untyped-def]
    return get_artifact_repository(job.tracking.client.get_run(job.run_id).info.artifact_uri)
