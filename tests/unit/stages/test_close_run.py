"""How the MLflow run ends."""

from pathlib import Path

import pytest

from optops.candidate import Artifact, Candidate
from optops.pipeline import make_spec
from optops.recipe_file import read_recipe
from optops.stage_spec import RunReference, StageResult
from optops.stages.execution import run_stage
from optops.tracking import Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"
REFUSED = {"accepted": False, "verdict": {"verdict": "regression", "markdown": "Worse."}}


@pytest.mark.usefixtures("optops_home")
@pytest.mark.parametrize(
    ("gate", "states", "status"),
    [
        (REFUSED, {"gate": "success"}, "FINISHED"),
        (REFUSED, {"promote": "failed"}, "FAILED"),
        (None, {"train": "skipped", "gate": "skipped"}, "FAILED"),
        (REFUSED | {"accepted": True}, {"gate": "success", "register": "stopped"}, "FAILED"),
    ],
    ids=["refused", "failed", "without a verdict", "stopped"],
)
def test_a_run_is_finished_if_it_has_a_verdict_and_nothing_failed_or_was_stopped(gate, states, status):
    recipe = read_recipe(RECIPE)
    reference = RunReference("", recipe.experiment, "", "manual__1")
    opened = run_stage(make_spec("open_run", recipe, reference, {}))
    judged = () if gate is None else (StageResult("gate", "g", output=gate),)
    run_stage(make_spec("close_run", recipe, reference, {"open_run": (opened,), "gate": judged}, state=states))
    assert Tracking().client.get_run(opened.output["run_id"]).info.status == status


@pytest.mark.usefixtures("optops_home")
def test_a_note_that_mlflow_has_no_room_for_keeps_what_the_run_came_to_and_says_where_all_of_it_is():
    recipe = read_recipe(RECIPE)
    reference = RunReference("", recipe.experiment, "", "manual__1")
    opened = run_stage(make_spec("open_run", recipe, reference, {}))
    verdict = {"verdict": "regression", "markdown": "- another: slower\n" * 1000}
    judged = StageResult("gate", "g", output={"accepted": False, "verdict": verdict})
    run_stage(make_spec("close_run", recipe, reference, {"open_run": (opened,), "gate": (judged,)}))
    note = Tracking().client.get_run(opened.output["run_id"]).data.tags["mlflow.note.content"]
    assert len(note) <= 8000
    assert note.startswith("# travel_phrases\n\n**Nothing was promoted;**")
    assert note.endswith("(cut; `summary.md` of this run has all of it)")


@pytest.mark.usefixtures("optops_home")
@pytest.mark.parametrize(
    ("qualities", "shown"), [((0.0031, 0.0045), ("0.00310", "0.00450")), ((0.0, 0.0), ("0.00", "0.00"))]
)
def test_the_summary_tells_small_metrics_apart_and_takes_a_baseline_of_which_no_share_is_a_tolerance(qualities, shown):
    recipe = read_recipe(RECIPE)
    reference = RunReference("", recipe.experiment, "", "manual__1")
    facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": True}
    trained, fused = (
        StageResult(stage, stage, candidates=(Candidate(stage, stage, stage, (), **facts, **more),))
        for stage, more in zip(
            ("train", "fuse"),
            ({"artifact": Artifact("none", "0"), "metrics": {"BLEU": quality}} for quality in qualities),
            strict=True,
        )
    )
    results = {"open_run": (run_stage(make_spec("open_run", recipe, reference, {})),), "train": (trained,)}
    closed = run_stage(make_spec("close_run", recipe, reference, results | {"fuse": (fused,)}))
    for name, quality in zip(("train", "fuse"), shown, strict=True):
        assert f"| {name} | {quality} |" in closed.output["summary"]


@pytest.mark.usefixtures("optops_home")
def test_the_baseline_has_its_latency_at_each_batch_size_that_anything_was_timed_at():
    recipe = read_recipe(RECIPE, {"benchmark.batches": [1, 8]})
    reference = RunReference("", recipe.experiment, "", "manual__1")
    facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": True}
    facts |= {"artifact": Artifact("none", "0"), "metrics": {"BLEU": 30.0}}

    def timed(seconds):
        median = {"latency": {"p50": seconds}}
        return {"latency": median, "baseline_latency": median, "speedup": {"ratio": 1.0}}

    table = {"failed at 8": {"cells": {"batch 1": timed(0.01)}}}
    table["did not"] = {"cells": {"batch 1": timed(0.02), "batch 8": timed(0.05)}}
    made = {stage: Candidate(stage, stage, stage, (), **facts) for stage in ("train", "fuse")}
    results = {stage: (StageResult(stage, stage, candidates=(candidate,)),) for stage, candidate in made.items()}
    results["open_run"] = (run_stage(make_spec("open_run", recipe, reference, {})),)
    results["benchmark"] = (StageResult("benchmark", "b", output={"table": table}),)
    closed = run_stage(make_spec("close_run", recipe, reference, results))
    assert "| train | 30.00 | 10.0 ms, 1.00x | 50.0 ms, 1.00x |" in closed.output["summary"]


@pytest.mark.usefixtures("optops_home")
def test_a_stage_that_died_without_ending_its_run_is_killed_when_the_run_is_closed():
    recipe, tracking = read_recipe(RECIPE), Tracking()
    first, second = (
        run_stage(make_spec("open_run", recipe, RunReference("", recipe.experiment, "", label), {})) for label in "ab"
    )

    def stage_of(opened):
        return tracking.open_run(recipe.experiment, "train", {}, opened.output["run_id"])

    died, failed, other = stage_of(first), stage_of(first), stage_of(second)
    tracking.end_run(failed, "FAILED")
    spec = make_spec("close_run", recipe, RunReference("", recipe.experiment, "", "a"), {"open_run": (first,)})
    run_stage(spec)
    states = [tracking.client.get_run(run_id).info.status for run_id in (died, failed, other)]
    assert states == ["KILLED", "FAILED", "RUNNING"]
