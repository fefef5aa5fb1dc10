"""Runs, candidates and the cache in a real MLflow store on SQLite."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowException

from optops.candidate import Artifact, Candidate, digest_folder
from optops.cli.outcome import how_to_use
from optops.passwords import without_password
from optops.stage_spec import Manifest, RunReference, StageResult
from optops.tracking import (
    KEY_TAG,
    STAGE_TAG,
    DigestMismatchError,
    StoreError,
    Tracking,
    model_version_url,
)

EXPERIMENT = "optops/test"


@pytest.fixture
def tracking(optops_home: Path) -> Tracking:
    del optops_home
    return Tracking()


def new_run(tracking: Tracking, key: str = "train-1", parent: str = "") -> str:
    return tracking.open_run(EXPERIMENT, "train", {KEY_TAG: key, STAGE_TAG: "train", "optops.cached_from": ""}, parent)


def log_candidate(tracking: Tracking, run_id: str, folder: Path, key: str = "train-1") -> Candidate:
    (folder / "trainable").mkdir(parents=True)
    np.save(folder / "trainable" / "weights.npy", np.arange(5.0))
    (folder / "note.txt").write_text("näme\n", encoding="utf-8")
    facts = (key, "baseline fp32", "train", (), "transformer", "fp32", "tensorflow", True)
    return tracking.log_candidate(run_id, folder, Candidate(*facts, Artifact("", ""), {"BLEU": 30.5}))


def stored_files(tracking: Tracking, candidate: Candidate) -> Path:
    model = tracking.client.get_logged_model(candidate.artifact.uri.removeprefix("models:/"))
    return Path(model.artifact_location.removeprefix("file://"))


def test_a_candidate_comes_back_as_it_was_put_in(tracking: Tracking, tmp_path: Path) -> None:
    candidate = log_candidate(tracking, new_run(tracking), tmp_path / "made")
    fetched = tracking.fetch(candidate.artifact)
    assert (fetched / "note.txt").read_text(encoding="utf-8") == "näme\n"
    assert np.load(fetched / "trainable" / "weights.npy", allow_pickle=False).tolist() == [0, 1, 2, 3, 4]
    assert tracking.fetch(candidate.artifact) == fetched


def test_a_candidate_is_a_logged_model_linked_to_its_run_with_key_and_metrics(
    tracking: Tracking, tmp_path: Path
) -> None:
    run_id = new_run(tracking)
    candidate = log_candidate(tracking, run_id, tmp_path / "made")
    model = tracking.client.get_logged_model(candidate.artifact.uri.removeprefix("models:/"))
    assert model.tags[KEY_TAG] == "train-1"
    assert (model.source_run_id, model.model_uri) == (run_id, candidate.artifact.uri)
    assert model.tags["optops.digest"] == candidate.artifact.digest
    assert {metric.key: metric.value for metric in model.metrics or []} == {"BLEU": 30.5}
    assert [m.model_id for m in tracking.client.get_run(run_id).outputs.model_outputs] == [model.model_id]


def test_a_candidate_that_was_tampered_with_is_refused_and_leaves_no_copy(tracking: Tracking, tmp_path: Path) -> None:
    candidate = log_candidate(tracking, new_run(tracking), tmp_path / "made")
    note = stored_files(tracking, candidate) / "note.txt"
    note.write_text("changed", encoding="utf-8")
    with pytest.raises(DigestMismatchError, match=r"optops gc --forget models:/m-"):
        tracking.fetch(candidate.artifact)
    note.write_text("näme\n", encoding="utf-8")
    assert tracking.fetch(candidate.artifact).is_dir()


@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_a_kept_copy_that_is_no_longer_whole_is_fetched_again(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    candidate = log_candidate(tracking, new_run(tracking), tmp_path / "made")
    fetched = tracking.fetch(candidate.artifact)
    note = fetched / "note.txt"
    if damage == "gone":
        shutil.rmtree(fetched)
    else:
        note.write_text("changed" if damage == "altered" else "", encoding="utf-8")
    # As another process, which has not checked it yet.
    monkeypatch.setattr("optops.tracking._whole", set())
    assert tracking.fetch(candidate.artifact) == fetched
    assert note.read_text(encoding="utf-8") == "näme\n"


@pytest.mark.parametrize("digest", ["", "../../elsewhere", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_digest_that_is_none_names_no_folder(tracking: Tracking, digest: str) -> None:
    with pytest.raises(DigestMismatchError, match="is no SHA-256"):
        tracking.fetch(Artifact("models:/m-1", digest))


def test_what_lies_behind_a_link_is_part_of_a_digest(tmp_path: Path) -> None:
    model, linked = tmp_path / "saved_model", tmp_path / "elsewhere"
    for folder in (model, linked):
        folder.mkdir()
        (folder / "file").write_bytes(b"1")
    (model / "variables").symlink_to(linked)
    before = digest_folder(model)
    (linked / "file").write_bytes(b"2")
    assert digest_folder(model) != before


def test_two_that_begin_the_same_new_experiment_share_it(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    create = tracking.client.create_experiment
    made: list[str] = []

    def slower_than_another_machine(name: str, **settings: Any) -> str:
        made.append(str(create(name, **settings)))
        return str(create(name, **settings))

    monkeypatch.setattr(tracking.client, "create_experiment", slower_than_another_machine)
    assert [tracking.experiment("optops/shared")] == made


def test_a_database_is_refused_for_experiments_whose_artifacts_would_be_on_one_machine(
    tracking: Tracking, tmp_path: Path
) -> None:
    places = {"remote": "s3://bucket/remote", "local": str(tmp_path), "file": tmp_path.as_uri()}
    ids = {name: tracking.client.create_experiment(name, artifact_location=place) for name, place in places.items()}
    tracking.uri = "postgresql+psycopg2://ann:s/cr@t@host/mlflow"  # in place of a database, the store of the test
    assert tracking.experiment("remote") == ids["remote"]
    for name in ("local", "file", "new"):
        with pytest.raises(StoreError, match=rf"postgresql database.*'{name}'.*`mlflow server.*s3://") as caught:
            tracking.experiment(name)
        assert not any(part in str(caught.value) for part in ("ann", "s/cr", "@t"))
    assert tracking.client.get_experiment_by_name("new") is None


def test_no_user_or_password_of_a_uri_is_shown() -> None:
    for uri, shown in {
        "https://ann:secret@host:5000/a@b": "https://host:5000/a@b",
        "postgresql+psycopg2://ann:s/cr@t@host/mlflow": "postgresql+psycopg2://host/mlflow",
        "mysql://ann:secret@host/mlflow": "mysql://host/mlflow",
        "sqlite:////home/ann@host/mlflow.db": "sqlite:////home/ann@host/mlflow.db",
    }.items():
        assert without_password(f"{uri} can not be reached by ann@host") == f"{shown} can not be reached by ann@host"


def test_links_hold_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTOPS_MLFLOW_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://bot:secret@host:5000")
    assert model_version_url("phrases", "1") == "https://host:5000/#/models/phrases/versions/1"
    assert not any("bot" in line or "secret" in line for line in how_to_use("phrases"))


def test_a_single_file_comes_back_too(tracking: Tracking, tmp_path: Path) -> None:
    run_id = new_run(tracking)
    path = tmp_path / "train.json"
    path.write_text("{}", encoding="utf-8")
    artifact = tracking.log_file(run_id, path, "manifests")
    assert artifact.uri == f"runs:/{run_id}/manifests/train.json"
    assert tracking.fetch(artifact).read_text(encoding="utf-8") == "{}"


def finished(tracking: Tracking, folder: Path, key: str = "train-1") -> StageResult:
    run_id = new_run(tracking, key)
    candidate = log_candidate(tracking, run_id, folder, key)
    manifest = Manifest("train", 2, "d", Artifact("runs:/x/y", "d"))
    result = StageResult("train", key, run_id, (candidate,), {"train": manifest}, output={"n": 1})
    tracking.log_result(run_id, result)
    tracking.end_run(run_id, "FINISHED")
    return result


def test_a_finished_result_is_found_by_its_key_alone(tracking: Tracking, tmp_path: Path) -> None:
    result = finished(tracking, tmp_path / "made")
    assert tracking.cached(EXPERIMENT, "train-1") == replace(result, cached=True)
    assert tracking.cached(EXPERIMENT, "train-2") is None
    assert tracking.cached("optops/other", "train-1") is None


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_what_did_not_finish_is_not_taken_over(tracking: Tracking, tmp_path: Path, status: str) -> None:
    result = finished(tracking, tmp_path / "made")
    tracking.client.update_run(result.run_id, status=status)
    assert tracking.cached(EXPERIMENT, "train-1") is None


def test_a_result_whose_candidate_is_gone_is_not_taken_over(tracking: Tracking, tmp_path: Path) -> None:
    result = finished(tracking, tmp_path / "made")
    tracking.client.delete_logged_model(result.candidates[0].artifact.uri.removeprefix("models:/"))
    assert tracking.cached(EXPERIMENT, "train-1") is None


def test_a_result_whose_files_are_gone_is_not_taken_over(tracking: Tracking, tmp_path: Path) -> None:
    result = finished(tracking, tmp_path / "made")
    shutil.rmtree(stored_files(tracking, result.candidates[0]))
    assert tracking.cached(EXPERIMENT, "train-1") is None


@pytest.mark.parametrize("call", ["get_logged_model", "list_logged_model_artifacts", "download_artifacts"])
def test_a_result_is_not_made_again_because_the_server_is_gone(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    finished(tracking, tmp_path / "made")

    def gone(*_: Any) -> None:
        raise MlflowException("API request to http://host failed with exception Max retries exceeded")

    monkeypatch.setattr(tracking.client, call, gone)
    with pytest.raises(MlflowException, match="failed with exception"):
        tracking.cached(EXPERIMENT, "train-1")


def test_a_damaged_result_is_passed_over_for_an_older_one(tracking: Tracking, tmp_path: Path) -> None:
    good = finished(tracking, tmp_path / "one")
    bad = finished(tracking, tmp_path / "two")
    tracking.client.log_text(bad.run_id, "{", "result.json")
    found = tracking.cached(EXPERIMENT, "train-1")
    assert found is not None and found.run_id == good.run_id


def test_a_retry_goes_on_in_the_run_that_was_killed_under_the_same_parent(tracking: Tracking) -> None:
    parent, other = new_run(tracking, ""), new_run(tracking, "")
    killed = new_run(tracking, "train-1", parent)
    tracking.end_run(killed, "KILLED")
    reference = RunReference("", EXPERIMENT, parent, "label")
    assert tracking.unfinished_run(replace(reference, run_id=other), "train-1") is None
    assert tracking.unfinished_run(reference, "train-2") is None
    assert tracking.unfinished_run(reference, "train-1") == killed
    assert tracking.client.get_run(killed).info.status == "RUNNING"
    tracking.end_run(killed, "FINISHED")
    assert tracking.unfinished_run(reference, "train-1") is None


def test_parameters_may_be_logged_twice_and_are_cut(tracking: Tracking) -> None:
    run_id = new_run(tracking)
    tracking.log_params(run_id, {"a": 1, "long": "x" * 7000})
    tracking.log_params(run_id, {"a": 2})
    params = tracking.client.get_run(run_id).data.params
    assert params["a"] == "1" and len(params["long"]) == 6000


def test_a_deleted_experiment_is_named_with_the_remedy(tracking: Tracking) -> None:
    tracking.client.delete_experiment(tracking.experiment(EXPERIMENT))
    with pytest.raises(ValueError, match=r"'optops/test' is deleted; restore it"):
        tracking.experiment(EXPERIMENT)


def test_artifacts_lie_below_the_home_not_in_the_working_directory(tracking: Tracking, optops_home: Path) -> None:
    run = tracking.client.get_run(new_run(tracking))
    assert run.info.artifact_uri.removeprefix("file://").startswith(str(optops_home / "mlflow" / "artifacts"))


def test_names_of_metrics_that_mlflow_does_not_take_are_kept_with_what_it_does(tracking: Tracking) -> None:
    run = new_run(tracking)
    tracking.log_metrics(run, {"mAP@0.5": 80.5, "defects.no_area": 2})
    assert tracking.client.get_run(run).data.metrics == {"mAP_0.5": 80.5, "defects.no_area": 2}
