"""`show`, `gc`, `rollback` and `validate` over runs in a real MLflow store."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from optops.candidate import Artifact, Candidate
from optops.cli import app
from optops.cli.collection import forget_result, store_garbage
from optops.cli.console import CommandError
from optops.cli.records import find_run, read_record, stage_results
from optops.pipeline import recipe_json
from optops.recipe_file import read_recipe
from optops.registry import ARTIFACT_TAG, CANDIDATE_TAG, DIGEST_TAG, promote
from optops.stage_spec import RunReference, StageResult, StageSpec
from optops.stages.execution import run_stage
from optops.tracking import KEY_TAG, STAGE_TAG, Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"
SPEEDUP = {"ratio": 2.0, "low": 1.9, "high": 2.1, "lower_bound": 1.92}
CELL = {"speedup": SPEEDUP, "latency": {"latency": {"p50": 0.01}}, "baseline_latency": {"latency": {"p50": 0.02}}}


class Run:
    """A run of the demo's recipe, under its own or another name, with as many stages as a test wants."""

    def __init__(self, tracking: Tracking, label: str, files: Path, name: str = "travel_phrases"):
        experiment = {"registry.experiment": "optops/travel_phrases"}
        recipe = read_recipe(RECIPE, experiment).model_copy(update={"name": name})
        spec = StageSpec("open_run", recipe_json(recipe), RunReference("", recipe.experiment, "", label))
        self.id = str(run_stage(spec).output["run_id"])
        self.tracking, self.experiment, self._files = tracking, recipe.experiment, files
        self.stages: list[str] = []

    def stage(self, name: str, key: str, cached_from: str = "", **result: Any) -> StageResult:
        tags = {KEY_TAG: key, STAGE_TAG: name, "optops.cached_from": cached_from}
        run_id = self.tracking.open_run(self.experiment, name, tags, self.id)
        self.stages.append(run_id)
        made = StageResult(name, key, run_id, **result)
        if not cached_from:
            self.tracking.log_result(run_id, made)
        self.tracking.end_run(run_id, "FINISHED")
        return made

    def candidate(
        self, stage: str, name: str, key: str, parents: tuple[str, ...] = (), quality: float = 30.0
    ) -> Candidate:
        """Makes a candidate in a stage of its own, which hands it on."""
        folder = self._files / f"{self.id}-{key}"
        folder.mkdir(parents=True)
        (folder / "weights.bin").write_bytes(os.urandom(1000))
        tags = {KEY_TAG: key, STAGE_TAG: stage, "optops.cached_from": ""}
        run_id = self.tracking.open_run(self.experiment, stage, tags, self.id)
        self.stages.append(run_id)
        facts = (key, name, stage, parents, "transformer", "fp32", "tensorflow", False)
        made = Candidate(*facts, Artifact("", ""), {"BLEU": quality})
        candidate = self.tracking.log_candidate(run_id, folder, made)
        self.tracking.log_result(run_id, StageResult(stage, key, run_id, (candidate,)))
        self.tracking.end_run(run_id, "FINISHED")
        return candidate

    def end(self, status: str = "FINISHED", days_ago: float = 0) -> None:
        self.tracking.end_run(self.id, status)
        if days_ago:
            then = int((time.time() - days_ago * 86_400) * 1000)
            for run_id, ended in (*((stage, "FINISHED") for stage in self.stages), (self.id, status)):
                self.tracking.client._tracking_client.store.update_run_info(run_id, _status(ended), then, None)


def _status(name: str) -> Any:
    from mlflow.entities import RunStatus

    return RunStatus.from_string(name)


@pytest.fixture
def tracking(optops_home: Path) -> Tracking:
    del optops_home
    return Tracking()


@pytest.fixture
def new_run(tracking: Tracking, tmp_path: Path) -> Any:
    return lambda label, **about: Run(tracking, label, tmp_path / "files", **about)


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def complete(run: Run) -> Candidate:
    baseline = run.candidate("train", "baseline", "train-1")
    nominee = run.candidate("fuse", "baseline int8 onnxruntime", "fuse-1", ("train-1",))
    table = {nominee.name: {"key": nominee.key, "cells": {"batch 1": CELL}}}
    run.stage("benchmark", "benchmark-1", candidates=(nominee,), output={"table": table}, dropped={"slow": "too slow"})
    verdict = {"verdict": "accept", "markdown": "## Verdict: accept"}
    run.stage("gate", "gate-1", candidates=(nominee,), output={"accepted": True, "verdict": verdict, "champion": None})
    assert baseline.artifact != nominee.artifact
    return nominee


def register(run: Run, candidate: Candidate, name: str = "phrases") -> str:
    client = run.tracking.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    artifact = candidate.artifact
    tags = {CANDIDATE_TAG: candidate.key, ARTIFACT_TAG: artifact.uri, DIGEST_TAG: artifact.digest}
    version = str(client.create_model_version(name, source="file:///nowhere", tags=tags).version)
    output = {"name": name, "version": version, "uri": f"models:/{name}/{version}"}
    run.stage("register", "register-1", candidates=(candidate,), output=output)
    return version


def test_evaluate_says_what_is_wrong_with_data_that_can_not_be_read(tracking: Tracking, tmp_path: Path) -> None:
    del tracking
    path = tmp_path / "pets.yaml"
    path.write_text(
        "name: pets\nworkload: image_classification\ndata: {classes: [cat, dog], corpus: images}\nmodel: {}\n"
        "registry: {name: pets}\n"
    )
    recipe = read_recipe(path)
    run_stage(StageSpec("open_run", recipe_json(recipe), RunReference("", recipe.experiment, "", "monday")))
    status, output = call("evaluate", "pets", "--set", f"data.corpus={tmp_path}/typo")
    assert status == 1
    assert f"{tmp_path}/typo does not exist; name the folder that holds the images" in output.replace("\n", " ")


def test_show_tells_stages_candidates_speedups_and_verdict_from_mlflow_alone(new_run: Any) -> None:
    run = new_run("monday")
    nominee = complete(run)
    promote(run.tracking.client, "phrases", register(run, nominee), None)
    run.end()
    status, output = call("show", "travel_phrases", "--json")
    record = json.loads(output)
    assert status == 0
    assert (record["run_id"], record["label"], record["status"]) == (run.id, "monday", "FINISHED")
    assert [stage["stage"] for stage in record["stages"]] == ["train", "fuse", "benchmark", "gate", "register"]
    (shown,) = [candidate for candidate in record["candidates"] if candidate["key"] == "fuse-1"]
    assert shown["cells"]["batch 1"] == {**SPEEDUP, "p50_seconds": 0.01}
    assert shown["parents"] == ["train-1"] and shown["metrics"] == {"BLEU": 30.0}
    assert record["verdict"] == {"verdict": "accept", "markdown": "## Verdict: accept"}
    assert record["registered"]["champion"] is True
    status, output = call("show", run.id[:8])
    for part in ("baseline int8 onnxruntime", "2.00x, 10.0 ms", "slow: too slow", "Verdict: accept", "the champion"):
        assert part in output


def test_show_tells_small_metrics_apart(new_run: Any) -> None:
    run = new_run("monday")
    run.candidate("train", "baseline", "train-1", quality=0.0031)
    run.candidate("fuse", "nominee", "fuse-1", quality=0.0045)
    _, output = call("show", "monday")
    assert "0.003100" in output and "0.004500" in output


def test_show_follows_what_was_taken_over_from_the_cache(new_run: Any) -> None:
    first, second = new_run("one"), new_run("two")
    candidate = first.candidate("train", "baseline", "train-1")
    made_by = first.tracking.client.get_logged_model(candidate.artifact.uri.removeprefix("models:/")).source_run_id
    second.stage("train", "train-1", cached_from=made_by)
    record = read_record(second.tracking, find_run(second.tracking, "two"))
    assert record["stages"][0]["cached"] is True
    assert [shown["name"] for shown in record["candidates"]] == ["baseline"]


def test_a_run_is_found_by_id_prefix_label_child_and_recipe_and_otherwise_explained(new_run: Any) -> None:
    first, second = new_run("one"), new_run("two")
    child = second.stage("gate", "gate-1").run_id
    tracking = first.tracking
    for name, found in (
        (first.id, first),
        (first.id[:12], first),
        ("one", first),
        ("travel_phrases", second),
        (child, second),
    ):
        assert find_run(tracking, name).info.run_id == found.id
    with pytest.raises(CommandError, match=r"'nothing' is no run.*recipes with runs are travel_phrases"):
        find_run(tracking, "nothing")


def test_runs_are_found_newest_first_however_many_experiments_there_are(
    new_run: Any, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = new_run("one")
    for name in ("a", "b"):
        tracking.experiment(name)
    experiment = tracking.experiment("c")
    newest = tracking.client.create_run(experiment, tags={"optops.run": "two"}).info.run_id
    tracking.client.log_param(newest, "recipe", "travel_phrases")
    few = partial(tracking.client.search_experiments, max_results=2)
    monkeypatch.setattr(tracking.client, "search_experiments", few)
    monkeypatch.setattr("optops.cli.records.EXPERIMENTS_OF_A_SEARCH", 2)
    assert find_run(tracking, "one").info.run_id == oldest.id
    assert find_run(tracking, "travel_phrases").info.run_id == newest


def test_a_label_that_runs_of_two_recipes_share_names_neither(new_run: Any) -> None:
    first, second = new_run("nightly"), new_run("nightly-too")
    client = first.tracking.client
    client.set_tag(second.id, "optops.run", "nightly")
    assert find_run(first.tracking, "nightly").info.run_id == second.id
    other = client.create_run(client.get_run(first.id).info.experiment_id, tags={"optops.run": "nightly"})
    client.log_param(other.info.run_id, "recipe", "another")
    with pytest.raises(CommandError, match="'nightly' is a run of another, travel_phrases each; give the run id"):
        find_run(first.tracking, "nightly")


def test_rollback_makes_the_previous_champion_the_champion(new_run: Any) -> None:
    run = new_run("one")
    nominee = complete(run)
    first, second = register(run, nominee), register(run, nominee)
    promote(run.tracking.client, "phrases", first, None)
    promote(run.tracking.client, "phrases", second, first)
    status, output = call("rollback", "phrases")
    assert status == 0 and "version 1 is the champion again; it was version 2" in output
    status, output = call("rollback", "phrases")
    assert status == 1 and "only champion" in output


def test_a_stage_that_a_run_took_over_from_itself_handed_on_once(new_run: Any, tracking: Tracking) -> None:
    run = new_run("resumed")
    nominee = complete(run)
    run.stage("fuse", "fuse-1", cached_from=source_of(tracking, nominee))
    results = stage_results(tracking, find_run(tracking, "resumed"))
    assert [result.key for result in results] == ["train-1", "fuse-1", "benchmark-1", "gate-1"]


def test_no_command_shows_the_registrys_password(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the store is, MLflow was told; the message is the registry's.
    monkeypatch.setattr("optops.registry.get_registry_uri", lambda: "postgresql://ann:secret@host/registry")
    tracking.client.create_registered_model("phrases")
    status, output = call("rollback", "phrases")
    assert status == 1 and "has no champion in postgresql://host/registry" in output


# gc


def removed(tracking: Tracking, days: int = 30) -> Iterator[str]:
    return (item.name for item in store_garbage(tracking, days))


def source_of(tracking: Tracking, candidate: Candidate) -> str:
    return str(tracking.client.get_logged_model(candidate.artifact.uri.removeprefix("models:/")).source_run_id)


def test_what_is_young_newest_unfinished_or_registered_is_kept(new_run: Any, tracking: Tracking) -> None:
    registered, newest, running, young = (new_run(label) for label in ("registered", "newest", "running", "young"))
    register(registered, complete(registered))
    for run in (newest, running, young):
        run.candidate("train", "baseline", f"train-{run.id}")
    registered.end(days_ago=90)
    young.end("FAILED", days_ago=1)
    newest.end(days_ago=60)
    assert list(removed(tracking)) == []
    assert tracking.client.get_run(running.id).info.status == "RUNNING"


def test_failed_and_superseded_runs_go_with_their_candidates(
    new_run: Any, tracking: Tracking, optops_home: Path
) -> None:
    failed, superseded, newest = (new_run(label) for label in ("failed", "superseded", "newest"))
    gone = [run.candidate("train", "baseline", f"train-{run.id}") for run in (failed, superseded)]
    kept = newest.candidate("train", "baseline", "train-newest")
    failed.end("FAILED", days_ago=60)
    superseded.end(days_ago=50)
    newest.end()
    status, output = call("gc", "--dry-run")
    assert status == 0 and output.count("would remove") == 6, output
    assert tracking.fetch(kept.artifact).is_dir()
    before = sum(p.stat().st_size for p in (optops_home / "mlflow" / "artifacts").rglob("*") if p.is_file())
    status, output = call("gc")
    assert status == 0 and output.count("removed") == 6
    after = sum(p.stat().st_size for p in (optops_home / "mlflow" / "artifacts").rglob("*") if p.is_file())
    assert before - after >= 2000
    for candidate, run in zip(gone, (failed, superseded), strict=True):
        assert tracking.cached(newest.experiment, candidate.key) is None
        assert tracking.client.get_run(run.id).info.lifecycle_stage == "deleted"
    found = tracking.cached(newest.experiment, "train-newest")
    assert found is not None and found.candidates == (kept,)
    assert list(removed(tracking)) == []


def test_what_a_kept_run_took_over_from_an_old_one_is_kept(new_run: Any, tracking: Tracking) -> None:
    old, newest = new_run("old"), new_run("newest")
    candidate = old.candidate("train", "baseline", "train-1")
    other = old.candidate("distill", "student", "distill-1", ("train-1",))
    made_by = tracking.client.get_logged_model(candidate.artifact.uri.removeprefix("models:/")).source_run_id
    newest.stage("train", "train-1", cached_from=made_by)
    old.end("FAILED", days_ago=60)
    newest.end()
    names = list(removed(tracking))
    assert len(names) == 2 and all("student" in name or "distill" in name for name in names)
    assert other.artifact.uri.removeprefix("models:/") in names[0]


def test_the_lineage_of_a_registered_version_is_kept_wherever_it_was_made(new_run: Any, tracking: Tracking) -> None:
    first, second, newest = (new_run(label) for label in ("first", "second", "newest"))
    first.candidate("train", "baseline", "train-1")
    register(second, second.candidate("fuse", "nominee", "fuse-1", ("train-1",)))
    for run in (first, second):
        run.end("FAILED", days_ago=90)
    newest.end()
    assert list(removed(tracking)) == []


def test_the_run_that_a_version_names_as_its_evidence_is_kept_whole(new_run: Any, tracking: Tracking) -> None:
    maker, judge, newest = (new_run(label) for label in ("maker", "judge", "newest"))
    nominee = complete(maker)
    version = register(maker, nominee)
    # A later run came to the same version, and described it anew.
    judge.stage("benchmark", "benchmark-2", candidates=(nominee,))
    judge.stage("gate", "gate-2", candidates=(nominee,))
    tracking.client.set_model_version_tag("phrases", version, "optops.run", judge.id)
    for run in (maker, judge):
        run.end(days_ago=90)
    newest.end()
    assert list(removed(tracking)) == []


def test_what_a_copied_version_stands_on_is_kept_without_the_version_it_was_copied_from(
    new_run: Any, tracking: Tracking
) -> None:
    old, newest = new_run("old"), new_run("newest")
    served = old.candidate("register", "served", "register-1")
    client, model_id = tracking.client, served.artifact.uri.removeprefix("models:/")
    client.create_registered_model("phrases")
    client.create_model_version("phrases", source=served.artifact.uri, model_id=model_id)
    client.copy_model_version("models:/phrases/1", "production")
    client.delete_registered_model("phrases")
    old.end("FAILED", days_ago=90)
    newest.end()
    assert list(removed(tracking)) == []


def test_stage_runs_whose_parent_was_deleted_stay_until_they_are_old(new_run: Any, tracking: Tracking) -> None:
    run, newest = new_run("deleted"), new_run("newest")
    run.candidate("train", "baseline", "train-1")
    run.end(days_ago=10)
    newest.end()
    tracking.client.delete_run(run.id)
    assert list(removed(tracking)) == []
    assert [name.split()[0] for name in removed(tracking, days=5)] == ["candidate", "run"]


def test_the_newest_run_of_each_recipe_of_an_experiment_is_kept(new_run: Any, tracking: Tracking) -> None:
    superseded, other, newest = new_run("one"), new_run("two", name="other"), new_run("three")
    for run, days_ago in ((superseded, 90), (other, 60), (newest, 50)):
        run.candidate("train", "baseline", f"train-{run.id}")
        run.end(days_ago=days_ago)
    assert {run.experiment for run in (superseded, other, newest)} == {newest.experiment}
    candidate, stage, run_of_it = removed(tracking)
    assert candidate.startswith("candidate") and superseded.stages[0] in stage and superseded.id in run_of_it


def test_models_that_others_keep_in_the_experiment_stay(new_run: Any, tracking: Tracking) -> None:
    failed, newest = new_run("failed"), new_run("newest")
    gone = failed.candidate("train", "baseline", "train-1")
    failed.end("FAILED", days_ago=60)
    newest.end()
    experiment = tracking.client.get_run(newest.id).info.experiment_id
    foreign = tracking.client.create_run(experiment)
    for source in (foreign.info.run_id, None):
        tracking.client.create_logged_model(experiment, name="of-another-team", source_run_id=source)
    names = list(removed(tracking))
    assert sum(name.startswith("candidate") for name in names) == 1
    assert gone.artifact.uri.removeprefix("models:/") in names[0]


def test_candidates_of_runs_that_were_deleted_in_mlflow_go_too(new_run: Any, tracking: Tracking) -> None:
    deleted, newest = new_run("deleted"), new_run("newest")
    gone = deleted.candidate("prune", "pruned", "prune-1", ("train-1",))
    taken_over = deleted.candidate("distill", "student", "distill-1", ("train-1",))
    deleted.candidate("train", "baseline", "train-1")
    register(deleted, deleted.candidate("fuse", "nominee", "fuse-1", ("train-1",)))
    newest.stage("distill", "distill-1", cached_from=source_of(tracking, taken_over))
    newest.end()
    client, experiment = tracking.client, tracking.experiment(newest.experiment)
    foreign = client.create_run(experiment).info.run_id
    client.create_logged_model(experiment, name="of-another-team", source_run_id=foreign)
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{deleted.id}'")
    for run_id in (*(child.info.run_id for child in children), deleted.id, foreign):
        client.delete_run(run_id)
    assert list(removed(tracking)) == []
    (name,) = removed(tracking, days=0)
    assert gone.artifact.uri.removeprefix("models:/") in name


def test_candidates_go_where_every_run_was_deleted(new_run: Any, tracking: Tracking) -> None:
    run = new_run("only")
    source = source_of(tracking, run.candidate("train", "baseline", "train-1"))
    for run_id in (source, run.id):
        tracking.client.delete_run(run_id)
    assert len(list(removed(tracking, days=0))) == 1


def test_a_candidate_of_a_stage_that_began_since_the_runs_were_listed_stays(
    new_run: Any, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run("old")
    run.end("FAILED", days_ago=60)
    newest = new_run("newest")
    newest.end()
    search = tracking.client.search_logged_models

    def begins_meanwhile(*arguments: Any, **settings: Any) -> Any:
        newest.candidate("train", "baseline", "train-1")
        return search(*arguments, **settings)

    monkeypatch.setattr(tracking.client, "search_logged_models", begins_meanwhile)
    # The store's clock need not be this machine's.
    monkeypatch.setattr("optops.cli.collection.time", SimpleNamespace(time=lambda: time.time() + 86_400))
    assert not any(name.startswith("candidate") for name in removed(tracking, days=0))


def test_old_work_folders_and_copies_go_and_what_is_in_use_stays(optops_home: Path, tracking: Tracking) -> None:
    del tracking
    from optops.home import file_lock, subfolder

    old = time.time() - 60 * 86_400
    for name in ("train-old", "train-locked", "train-young"):
        path = subfolder("work", name) / "weights.bin"
        path.write_bytes(b"x" * 100)
        if name != "train-young":
            os.utime(path, (old, old))
            os.utime(path.parent, (old, old))
    for name in ("a" * 64, "b" * 64):
        subfolder("artifacts", name)
    os.utime(optops_home / "artifacts" / ("a" * 64), (old, old))
    with file_lock("train-locked"):
        status, output = call("gc")
    assert status == 0
    assert sorted(path.name for path in (optops_home / "work").iterdir()) == ["train-locked", "train-young"]
    assert [path.name for path in (optops_home / "artifacts").iterdir()] == ["b" * 64]
    assert "in use, kept" in output and "100 bytes freed" in output


def test_what_a_run_takes_over_while_gc_is_at_work_stays(new_run: Any, tracking: Tracking) -> None:
    old, newest = new_run("old"), new_run("newest")
    candidate = old.candidate("train", "baseline", "train-1")
    old.end("FAILED", days_ago=60)
    newest.end()
    listed = list(store_garbage(tracking, 30))
    source = tracking.client.get_logged_model(candidate.artifact.uri.removeprefix("models:/")).source_run_id
    new_run("just now").stage("train", "train-1", cached_from=source)
    assert {
        item.name.split()[0]: item.remove() for item in listed if source in item.name or "baseline" in item.name
    } == {
        "candidate": False,
        "run": False,
    }
    assert tracking.fetch(candidate.artifact).is_dir()


def test_a_copy_that_was_fetched_while_gc_is_at_work_stays(optops_home: Path, tracking: Tracking) -> None:
    del tracking
    from optops.cli.collection import local_garbage
    from optops.home import subfolder

    old = time.time() - 60 * 86_400
    for name in ("a" * 64, "b" * 64):
        subfolder("artifacts", name)
        os.utime(optops_home / "artifacts" / name, (old, old))
    listed = list(local_garbage(30))
    os.utime(optops_home / "artifacts" / ("a" * 64))
    assert [item.remove() for item in listed] == [False, True]


def test_a_forgotten_result_is_made_again_and_so_is_what_handed_it_on(new_run: Any, tracking: Tracking) -> None:
    run = new_run("one")
    baseline = run.candidate("train", "baseline", "train-1")
    run.stage("distill", "distill-1", candidates=(baseline,))
    run.stage("quantize", "quantize-1")
    assert len(forget_result(tracking, "train-1", dry_run=True)) == 2
    assert tracking.cached(run.experiment, "train-1") is not None
    status, output = call("gc", "--forget", baseline.artifact.uri)
    assert status == 0 and "forgot train-1" in output and "forgot distill-1" in output
    assert tracking.cached(run.experiment, "train-1") is None
    assert tracking.cached(run.experiment, "distill-1") is None
    assert tracking.cached(run.experiment, "quantize-1") is not None
    assert read_record(tracking, find_run(tracking, "one"))["stages"][0]["key"] == "train-1"
    status, output = call("gc", "--forget", "train-1")
    assert status == 1 and "is the key of no cached result" in output


def test_validate_chains_through_cached_results(tracking: Tracking, tmp_path: Path) -> None:
    from optops.cli.demo import write_demo_data
    from optops.cli.forecast import forecast
    from optops.pipeline import make_spec
    from optops.stages.base import new_job

    write_demo_data(tmp_path / "data", examples=100)
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.read_text(encoding="utf-8").replace("../../data/travel_phrases", "data"), encoding="utf-8")
    recipe = read_recipe(path)
    reference = RunReference("", recipe.experiment, "", "")
    results: dict[str, tuple[StageResult, ...]] = {"open_run": ()}
    for stage in ("check_labels", "train"):
        key = new_job(make_spec(stage, recipe, reference, results), tracking).key
        run_id = tracking.open_run(recipe.experiment, stage, {KEY_TAG: key, STAGE_TAG: stage, "optops.cached_from": ""})
        result = StageResult(stage, key, run_id)
        tracking.log_result(run_id, result)
        tracking.end_run(run_id, "FINISHED")
        results[stage] = (replace(result, cached=True),)
    states = {stage.name: stage.state for stage in forecast(path).stages}
    assert (states["check_labels"], states["train"]) == ("cached", "cached")
    assert (states["distill"], states["prune"], states["quantize"]) == ("run", "off", "run")
    assert any(stage.text.startswith("train-") for stage in forecast(path).stages)
    tracking.client.delete_experiment(tracking.experiment(recipe.experiment))
    status, output = call("validate", str(path), "--json")
    found = json.loads(output)
    assert status == 1 and len(found["problems"]) == 1
    assert f"MLflow experiment {recipe.experiment!r} is deleted; restore it" in found["problems"][0]
    assert {stage["state"] for stage in found["stages"]} == {"run", "off"}
