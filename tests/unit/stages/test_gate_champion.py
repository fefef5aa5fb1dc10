"""What gate, `register` and `promote` make of a champion that is not the one it was, over a real MLflow registry."""

from dataclasses import replace
from pathlib import Path

import pytest

from optops.candidate import Artifact, Candidate
from optops.registry import (
    CHAMPION,
    ROLLED_BACK_TAG,
    promote,
    rollback,
    version_by_alias,
)
from optops.served_model import requirements
from optops.stage_spec import StageResult
from optops.stages import gate, register
from optops.stages import promote as promotion
from optops.stages.base import StageError
from optops.stages.champion import fetch_champion
from optops.tracking import Tracking

NAME = "travel_phrases_en_de"


def candidate(digest="abc"):
    facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": False}
    files = Artifact("models:/m-1", digest)
    return Candidate("fuse-1", "nominee", "fuse", (), **facts, artifact=files, metrics={"BLEU": 30.0})


def test_a_champion_that_the_benchmark_did_not_time_is_not_judged_against(job, version):
    promote(Tracking().client, NAME, version(candidate()), None)
    results = {
        "nominate": StageResult("nominate", "n", candidates=(candidate(),)),
        "benchmark": StageResult("benchmark", "b", output={"champion": None}),
    }
    with pytest.raises(StageError, match="now version 1, but the benchmark timed none: one was promoted meanwhile"):
        gate.run(job("gate", results))


def test_a_champion_whose_files_are_gone_is_told_with_the_remedy(job, version):
    gone = candidate("0" * 64)
    client = Tracking().client
    promote(client, NAME, version(gone), None)
    champion = version_by_alias(client, NAME, CHAMPION)
    with pytest.raises(StageError, match=r"version 1, the champion of .* can not be fetched .* take the alias"):
        fetch_champion(job("benchmark", {}), champion)


def test_a_version_is_taken_again_only_for_the_same_files(job, version):
    made = version(candidate("weights of yesterday"))
    client = job("register", {}).tracking.client
    assert register.version_made_from(client, NAME, candidate("weights of yesterday")) == made
    assert register.version_made_from(client, NAME, candidate("weights of today")) is None


def test_what_a_person_rolled_back_is_not_promoted_by_itself(job, version):
    client = Tracking().client
    first, second = version(candidate()), version(candidate("def"))
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    rollback(client, NAME)
    registered = StageResult("register", "r", candidates=(candidate("def"),), output={"name": NAME, "version": second})
    results = {
        "register": registered,
        "gate": StageResult("gate", "g", output={"champion": first}),
    }
    assert f"delete its tag {ROLLED_BACK_TAG}" in promotion.run(job("promote", results)).skipped
    assert version_by_alias(client, NAME, CHAMPION).version == first
    # A person made it the champion again by hand.
    client.set_registered_model_alias(NAME, CHAMPION, second)
    assert not promotion.run(job("promote", results)).skipped
    rollback(client, NAME)
    # A person who approves it knows what they do.
    assert not promotion.run(job("promote", results, **{"approval.mode": "required"})).skipped
    assert version_by_alias(client, NAME, CHAMPION).version == second


@pytest.mark.parametrize(("answered_at", "champion"), [("2026-01-01T00:00:00Z", "1"), ("2999-01-01T00:00:00Z", "2")])
def test_what_was_rolled_back_is_promoted_only_by_an_answer_given_since(job, version, answered_at, champion):
    client = Tracking().client
    first, second = version(candidate()), version(candidate("def"))
    promote(client, NAME, first, None)
    promote(client, NAME, second, first)
    rollback(client, NAME)
    results = {
        "register": StageResult("register", "r", output={"name": NAME, "version": second}),
        "gate": StageResult("gate", "g", output={"champion": first}),
    }
    promoting = job("promote", results, **{"approval.mode": "required"})
    spec = replace(promoting.spec, state={"answered_at": answered_at})
    skipped = promotion.run(replace(promoting, spec=spec)).skipped
    assert ("nobody approved it since" in skipped) == (champion == first)
    assert version_by_alias(client, NAME, CHAMPION).version == champion


def test_what_is_the_champion_already_is_not_promoted_but_a_promotion_that_was_cut_off_is_done_again(job, version):
    client = Tracking().client
    first, second = version(candidate()), version(candidate("def"))
    promote(client, NAME, first, None)
    # The alias alone: the task died before the registry remembered.
    client.set_registered_model_alias(NAME, CHAMPION, second)
    registered = StageResult("register", "r", output={"name": NAME, "version": second})

    def promoted(compared):
        gate = StageResult("gate", "g", output={"champion": compared})
        return promotion.run(job("promote", {"register": registered, "gate": gate}))

    retried, nightly = promoted(first), promoted(second)
    assert (retried.skipped, retried.output["previous"]) == ("", first)
    assert nightly.skipped == f"version {second} of {NAME} is the champion already"
    assert nightly.output == registered.output
    assert version_by_alias(client, NAME, CHAMPION).version == second


def registering(job, reasons):
    """Returns the job of `register` in a run of its own, for a nominee that is better than so many others."""
    timing = {"latency": {"p50": 0.002, "p90": 0.003}, "items_per_second": 500.0}
    cell = {"speedup": {"ratio": 2.5, "low": 2.4, "high": 2.6}, "latency": timing, "baseline_latency": timing}
    output = {"target": {"cpu_model": "a CPU", "cores": 2}, "table": {"nominee": {"cells": {"batch 1": cell}}}}
    markdown = "## Verdict: accept\n\n### Not nominated\n\n" + "- another: slower\n" * reasons
    judged = {"accepted": True, "verdict": {"verdict": "accept", "markdown": markdown}}
    results = {
        "check_labels": StageResult("check_labels", "c", output={"digests": {}}),
        "train": StageResult("train", "t", candidates=(candidate(),)),
        "benchmark": StageResult("benchmark", "b", output=output),
        "gate": StageResult("gate", "g", candidates=(candidate(),), output=judged),
    }
    made = job("register", results)
    parent, child = (made.tracking.open_run("cards", name, {}) for name in ("run", "register"))
    run = replace(made.spec.run, run_id=parent)
    return replace(made, spec=replace(made.spec, run=run), run_id=child)


def test_a_version_that_was_made_before_has_the_card_of_the_run_that_came_to_it_again(job, version, tmp_path):
    made, client = version(candidate()), Tracking().client
    for reasons in (1, 400):
        again = registering(job, reasons)
        assert register.run(again).output["version"] == made
        card = Path(client.download_artifacts(again.run_id, "model_card.md", str(tmp_path))).read_text(encoding="utf-8")
        assert card.count("another: slower") == reasons
        description = client.get_model_version(NAME, made).description
        if reasons == 1:
            assert description == card
    assert len(description) == register.LONGEST_DESCRIPTION
    assert description.endswith(f"(cut; `model_card.md` of MLflow run {again.run_id} has all of it)")
    assert "| batch 1 | 2.00 ms | 2.00 ms | 3.00 ms | 2.50x [2.40, 2.60] | 500 |" in description
    assert "## Verdict: accept" in description


def test_serving_requires_only_what_is_installed():
    wanted = requirements({"numpy": "2.1.0", "onnxruntime": "", "onnxruntime-gpu": "1.23", "sacrebleu": "2.6"})
    assert wanted == ["numpy==2.1.0", "onnxruntime-gpu==1.23"]
