"""What is tried: models that are good enough, newest first, in each precision and runtime, within the budget."""

import pytest

from optops.candidate import Artifact, Candidate
from optops.stage_spec import StageResult
from optops.stages import plan
from optops.stages.base import StageError

COMBINATIONS = {"quantize.precisions": ["fp32", "int8"], "fuse.runtimes": ["tensorflow", "onnxruntime"]}


def candidate(name, quality=40.0):
    facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": True}
    return Candidate(name, name, "prune", (), **facts, artifact=Artifact("", ""), metrics={"BLEU": quality})


@pytest.fixture
def planned(job):
    """Gives a function that plans for candidates, the baseline first."""

    def run(*candidates, **overrides):
        results = {
            "train": StageResult("train", "t", candidates=candidates[:1]),
            "prune": StageResult("prune", "p", candidates=candidates),
        }
        return plan.run(job("plan", results, **{**COMBINATIONS, **overrides}))

    return run


def labels(result, stage):
    return [item["label"] for item in result.output[stage]]


def test_models_are_tried_newest_first_in_each_precision_and_runtime(planned):
    result = planned(candidate("baseline"), candidate("student"))
    ways = ["fp32 tensorflow", "fp32 onnxruntime", "int8 onnxruntime"]
    assert labels(result, "fuse") == [f"{name} {way}" for name in ("student", "baseline") for way in ways]
    assert labels(result, "quantize") == ["student fp32", "student int8", "baseline fp32", "baseline int8"]
    assert list(result.dropped) == ["student int8 tensorflow", "baseline int8 tensorflow"]


def test_what_is_beyond_the_budget_is_left_out_with_that_reason_and_needs_no_plan(planned):
    result = planned(candidate("baseline"), candidate("student"), **{"budget.executables": 4})
    assert labels(result, "fuse")[-1] == "baseline fp32 tensorflow"
    assert labels(result, "quantize") == ["student fp32", "student int8", "baseline fp32"]
    for name in ("baseline fp32 onnxruntime", "baseline int8 onnxruntime"):
        assert result.dropped[name] == "beyond the budget of 4 executables"


def test_a_model_goes_on_until_it_has_lost_twice_the_tolerance(planned):
    tolerance = {"gate.tolerance": 0.5, "gate.tolerance_kind": "absolute"}
    models = (candidate("baseline"), candidate("at the margin", 39.0), candidate("beyond it", 38.75))
    result = planned(*models, **tolerance)
    assert {item["candidate"] for item in result.output["fuse"]} == {"baseline", "at the margin"}
    assert result.dropped["beyond it"] == (
        "BLEU 38.75 on validation is 1.25 worse than the baseline's 40.00; more than twice the tolerance of 0.50"
    )


def test_the_margin_goes_by_the_baseline_where_the_tolerance_is_relative(planned):
    models = (candidate("baseline"), candidate("at the margin", 38.5), candidate("beyond it", 38.0))
    result = planned(*models, **{"gate.tolerance": 0.02})
    assert list(result.dropped)[:1] == ["beyond it"]
    assert {item["candidate"] for item in result.output["fuse"]} == {"baseline", "at the margin"}


def test_nothing_left_to_lower_is_said_with_the_reasons(planned):
    with pytest.raises(StageError, match=r"nothing to lower: .* is lowered to tensorflow in .*, not in int8"):
        planned(candidate("baseline"), **{"quantize.precisions": ["int8"], "fuse.runtimes": ["tensorflow"]})
