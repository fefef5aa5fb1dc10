"""Everything that talks to MLflow's tracking store: runs, candidates as LoggedModels, and the cache they make up."""

import json
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A tracking server that is gone for a minute must not cost a training: 8 retries wait about 4 minutes in all.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "8")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, LoggedModelInput, LoggedModelOutput, Run
from mlflow.entities import Metric as MlflowMetric

from optops.candidate import Artifact, Candidate, digest_folder
from optops.home import file_lock, subfolder
from optops.passwords import SERVED_DATABASES, without_password
from optops.stage_spec import RunReference, StageResult
from optops.unreachable import is_unreachable

KEY_TAG = "optops.key"
STAGE_TAG = "optops.stage"
TEST_SPLIT_TAG = "optops.test_split"
VERDICT_TAG = "optops.verdict"
RESULT_FILE = "result.json"
MODEL_TYPE = "optops-candidate"
_FOREIGN_TO_NAMES = re.compile(r"[^\w./: -]")

logger = logging.getLogger(__name__)

_whole: set[Path] = set()
"""Kept copies whose digest this process has checked."""


class StoreError(ValueError):
    """A store or an experiment of it that can not be used; the message names it and the remedy."""


class DigestMismatchError(RuntimeError):
    """Files in the artifact store that are not those which were put there."""


def default_uri() -> str:
    """Returns the tracking URI: `$MLFLOW_TRACKING_URI`, or the embedded SQLite store below `optops_home`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{subfolder('mlflow') / 'mlflow.db'}"


def default_artifacts() -> str:
    """Returns where the embedded store keeps artifacts; a server decides for itself."""
    return str(subfolder("mlflow", "artifacts"))


def user_interface() -> str:
    """Returns the base URL of MLflow's pages: `$OPTOPS_MLFLOW_URL`, the server, or where `make ui` starts one."""
    uri = default_uri()
    url = os.environ.get("OPTOPS_MLFLOW_URL") or (uri if uri.startswith("http") else "http://127.0.0.1:5000")
    # Links go into logs, XComs and model cards.
    return without_password(url)


class Tracking:
    """One connection to an MLflow store.

    Args:
        uri: Tracking URI; the one that the environment names if empty.
    """

    def __init__(self, uri: str = ""):
        self.uri = uri or default_uri()
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or self.uri)
        if self.uri.startswith("sqlite"):
            # Two processes that open a new SQLite store at once would both create its tables.
            with file_lock("mlflow-store"):
                self.client = MlflowClient()
                self.client.search_experiments(max_results=1)
        else:
            self.client = MlflowClient()

    # Experiments and runs

    def experiment(self, name: str) -> str:
        """Returns the id of an experiment, which is made if need be.

        Raises:
            StoreError: If it is deleted, or the store is a database without a server, and the artifacts would be in a
                folder of one machine.
        """
        found = self.client.get_experiment_by_name(name) or self._new_experiment(name)
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"MLflow experiment {name!r} is deleted; restore it (`mlflow experiments restore -x "
                f"{found.experiment_id}`) or set `registry.experiment` to another name"
            )
        _check_place(self.uri, name, found.artifact_location)
        return str(found.experiment_id)

    def _new_experiment(self, name: str) -> Experiment:
        location = f"{default_artifacts()}/{name}" if self.uri.startswith("sqlite") else None
        # MLflow would make that a folder in the working directory.
        _check_place(self.uri, name, location or "")
        try:
            made = self.client.create_experiment(name, artifact_location=location)
        except mlflow.MlflowException as error:
            # Another run, of this machine or another, may have been faster.
            found = self.client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return found
        return self.client.get_experiment(made)

    def open_run(self, experiment: str, name: str, tags: Mapping[str, str], parent: str = "") -> str:
        """Starts a run and returns its id."""
        all_tags = {**tags, "mlflow.runName": name, **({"mlflow.parentRunId": parent} if parent else {})}
        run = self.client.create_run(self.experiment(experiment), tags=all_tags, run_name=name)
        return str(run.info.run_id)

    def unfinished_run(self, reference: RunReference, key: str) -> str | None:
        """Returns the run of a stage that was killed or failed under the same parent, to go on in it."""
        found = self._search(
            reference.experiment,
            f"tags.`{KEY_TAG}` = '{key}' and tags.`mlflow.parentRunId` = '{reference.run_id}' "
            "and attributes.status != 'FINISHED'",
        )
        if not found:
            return None
        run_id = str(found[0].info.run_id)
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def end_run(self, run_id: str, status: str) -> None:
        """Ends a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    def verdicts_on(self, experiment: str, test_split: str) -> Counter[str]:
        """Returns the verdicts that were reached on a test split in an experiment, and how often each.

        Args:
            experiment: Its name.
            test_split: Digest of the split.
        """
        query = f"tags.`{TEST_SPLIT_TAG}` = '{test_split}' and attributes.status = 'FINISHED'"
        runs = self.client.search_runs([self.experiment(experiment)], query, max_results=1000)
        return Counter(run.data.tags.get(VERDICT_TAG, "none") for run in runs)

    def end_stages(self, experiment: str, parent: str) -> None:
        """Ends, as KILLED, the runs of a parent's stages that died without doing so: by SIGKILL, with their machine."""
        query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.experiment(experiment)], query):
            self.end_run(str(run.info.run_id), "KILLED")

    def _search(self, experiment: str, query: str) -> list[Run]:
        ids = [self.experiment(experiment)]
        return list(self.client.search_runs(ids, query, order_by=["attributes.start_time DESC"], max_results=5))

    # The cache: finished runs that hold their result

    def cached(self, experiment: str, key: str) -> StageResult | None:
        """Returns the result of an earlier run with the same key, if all its artifacts are still there.

        A server that is gone is no sign that they are not: its error is the caller's.
        """
        query = f"tags.`{KEY_TAG}` = '{key}' and tags.`optops.cached_from` = '' and attributes.status = 'FINISHED'"
        for run in self._search(experiment, query):
            try:
                result = self.load_result(str(run.info.run_id))
                for candidate in result.candidates:
                    model = _model_id(candidate.artifact.uri)
                    self.client.get_logged_model(model)  # of one that was deleted the files are there for a while
                    if not self.client.list_logged_model_artifacts(model):
                        raise FileNotFoundError(f"the files of {candidate.name} ({model}) are gone")
            except (OSError, ValueError, KeyError, TypeError, mlflow.MlflowException) as error:
                if is_unreachable(error):
                    raise
                logger.info("earlier result of run %s can not be taken over: %s", run.info.run_id, error)
                continue
            return replace(result, cached=True)
        return None

    def log_result(self, run_id: str, result: StageResult) -> None:
        """Keeps the result with its run, which makes it findable by `cached`."""
        self.client.log_text(run_id, json.dumps(result.to_json(), indent=1, sort_keys=True), RESULT_FILE)

    def load_result(self, run_id: str) -> StageResult:
        """Returns the result that `log_result` kept with a run.

        Raises:
            OSError: If it is not there (or an `MlflowException`, depending on the artifact store).
            ValueError: If it is damaged (or a `KeyError` or `TypeError`).
        """
        with tempfile.TemporaryDirectory() as folder:
            path = self.client.download_artifacts(run_id, RESULT_FILE, folder)
            return StageResult.from_json(json.loads(Path(path).read_text(encoding="utf-8")))

    # What a run says

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], model: Candidate | None = None, step: int = 0
    ) -> None:
        """Logs metrics of a run; linked to a candidate where one is given."""
        from time import time

        now = int(time() * 1000)
        # MLflow takes few characters in names; `mAP@0.5` is kept as `mAP_0.5`.
        metrics = {_FOREIGN_TO_NAMES.sub("_", key): value for key, value in metrics.items()}
        if model is None:
            values = [MlflowMetric(key, float(value), now, step) for key, value in metrics.items()]
            self.client.log_batch(run_id, metrics=values)
        else:
            model_id = _model_id(model.artifact.uri)
            for key, value in metrics.items():
                self.client.log_metric(run_id, key, float(value), now, step, model_id=model_id)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Logs parameters; values are cut at MLflow's limit of 6,000 characters."""
        known = self.client.get_run(run_id).data.params
        for key, value in params.items():
            if key not in known:
                self.client.log_param(run_id, key, str(value)[:6000])

    def log_dataset(self, run_id: str, split: str, name: str, digest: str, source: str) -> None:
        """Links a run to the data of one split."""
        dataset = Dataset(
            name=name, digest=digest[:36], source_type="local", source=json.dumps({"uri": source}), profile=None
        )
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", split)])])

    def log_inputs(self, run_id: str, candidates: Iterable[Candidate]) -> None:
        """Links a run to the candidates it reads."""
        models = [LoggedModelInput(_model_id(candidate.artifact.uri)) for candidate in candidates]
        if models:
            self.client.log_inputs(run_id, models=models)

    # Candidates and other artifacts

    def log_candidate(self, run_id: str, folder: Path, candidate: Candidate) -> Candidate:
        """Puts a candidate's files into the store as a LoggedModel and returns the candidate with its artifact."""
        run = self.client.get_run(run_id)
        digest = digest_folder(folder)
        model = self.client.create_logged_model(
            run.info.experiment_id,
            # MLflow refuses dots in it.
            name=candidate.name.replace(" ", "-").replace(".", "-"),
            source_run_id=run_id,
            tags={KEY_TAG: candidate.key, STAGE_TAG: candidate.stage, "optops.digest": digest},
            params={
                "parents": ", ".join(candidate.parents) or "none",
                "architecture": candidate.architecture,
                "precision": candidate.precision,
                "runtime": candidate.runtime or "none",
            },
            model_type=MODEL_TYPE,
        )
        try:
            self.client.log_model_artifacts(model.model_id, str(folder))
        except BaseException:
            self.client.finalize_logged_model(model.model_id, "FAILED")
            raise
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        stored = replace(candidate, artifact=Artifact(f"models:/{model.model_id}", digest))
        if stored.metrics:
            self.log_metrics(run_id, stored.metrics, stored)
        return stored

    def log_file(self, run_id: str, path: Path, folder: str = "") -> Artifact:
        """Puts a file into a run's artifacts and returns the reference."""
        self.client.log_artifact(run_id, str(path), folder or None)
        return Artifact(f"runs:/{run_id}/{folder + '/' if folder else ''}{path.name}", digest_folder(path))

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """Puts all files of a folder into a run's artifacts."""
        self.client.log_artifacts(run_id, str(path), folder)

    def fetch(self, artifact: Artifact) -> Path:
        """Returns a local copy of an artifact, after checking its digest.

        Copies are kept by digest below `optops_home`, so each is downloaded once a machine, and checked once a process.

        Raises:
            DigestMismatchError: If the store holds something else than what was put there.
        """
        if not re.fullmatch("[0-9a-f]{64}", artifact.digest):
            # It becomes the name of a folder.
            raise DigestMismatchError(
                f"{artifact.uri}: its digest {artifact.digest!r} is no SHA-256; it was changed from outside"
            )
        kept = subfolder("artifacts") / artifact.digest
        with file_lock(f"artifact-{artifact.digest[:16]}"):
            if kept.exists():
                if _is_whole(kept, artifact.digest):
                    # `optops gc` removes copies by when they were last used.
                    os.utime(kept)
                    return _only_entry(kept)
                logger.warning("%s is no longer what was fetched; it is fetched again", kept)
                shutil.rmtree(kept)
            partial = Path(tempfile.mkdtemp(dir=subfolder("artifacts"), prefix="partial-"))
            try:
                self._download(artifact.uri, partial)
                single = _only_entry(partial)
                actual = digest_folder(single)
                if actual != artifact.digest:
                    raise DigestMismatchError(
                        f"{artifact.uri}: digest is {actual}, expected {artifact.digest}; the artifact store was "
                        f"changed from outside. `optops gc --forget {artifact.uri}` forgets the result; then run again"
                    )
                partial.rename(kept)
                _whole.add(kept)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return _only_entry(kept)

    def _download(self, uri: str, folder: Path) -> None:
        if uri.startswith("models:/m-"):
            uri = self.client.get_logged_model(_model_id(uri)).artifact_location
        # A folder may land in `folder` itself or below it: a folder of its own makes both the same.
        below = folder / "content"
        below.mkdir()
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(below), tracking_uri=self.uri))
        path.rename(folder / (path.name if path != below else "files"))
        if path != below:
            below.rmdir()

    # Links

    def run_url(self, run_id: str) -> str:
        """Returns the page of a run."""
        experiment = self.client.get_run(run_id).info.experiment_id
        return f"{user_interface()}/#/experiments/{experiment}/runs/{run_id}"

    def artifact_url(self, run_id: str, path: str) -> str:
        """Returns the page of a run that shows one of its artifacts."""
        return f"{self.run_url(run_id)}/artifacts/{path}"


def model_version_url(name: str, version: str) -> str:
    """Returns the page of a model version."""
    return f"{user_interface()}/#/models/{name}/versions/{version}"


def fitting(text: str, limit: int, whole: str) -> str:
    """Returns a text as MLflow has room for it: cut, and saying where the whole of it is, if it is too long."""
    if len(text) <= limit:
        return text
    note = f"\n\n(cut; {whole} has all of it)"
    return text[: limit - len(note)] + note


def _is_whole(kept: Path, digest: str) -> bool:
    """Returns whether a kept copy is what its digest says; gigabytes take seconds, so each is read once a process."""
    if kept not in _whole and len(list(kept.iterdir())) == 1 and digest_folder(_only_entry(kept)) == digest:
        _whole.add(kept)
    return kept in _whole


def _check_place(uri: str, experiment: str, location: str) -> None:
    database = uri.partition(":")[0].partition("+")[0]
    if database in SERVED_DATABASES and urlsplit(location).scheme in ("", "file"):
        raise StoreError(
            f"MLFLOW_TRACKING_URI names a {database} database, which keeps no artifacts: those of experiment "
            f"{experiment!r} would be in a folder of one machine. Start `mlflow server --backend-store-uri "
            f"{database}://... --artifacts-destination FOLDER` and give the address of that, or set "
            "`registry.experiment` to one made by `mlflow experiments create -n NAME --artifact-location s3://...`"
        )


def _model_id(uri: str) -> str:
    return uri.removeprefix("models:/")


def _only_entry(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry
