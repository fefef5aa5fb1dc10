"""What the gate makes of its nominees, one after the other: verdicts, their levels, and what ends the trying."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from optops.candidate import Artifact
from optops.measurement import plots
from optops.pipeline import TEST, TRAIN
from optops.registry import CHAMPION, promote, version_by_alias
from optops.stage_spec import Manifest, StageResult
from optops.stages import gate
from optops.stages.base import Job, StageError
from optops.stages.champion import CHAMPION_NAME
from optops.tracking import TEST_SPLIT_TAG, VERDICT_TAG, Tracking
from optops.workloads.base import NaiveAnswers
from optops.workloads.translation.workload import TranslationWorkload

NAME = "travel_phrases_en_de"
EXPERIMENT = "optops/travel_phrases"
RIGHT, WRONG = [8, 8, 8, 7, 6, 5, 8, 7, 6, 5], [8, 8, 0, 0, 0, 0, 8, 7, 6, 5]
EXAMPLES = 400
GOOD, BAD = range(2, 382), range(60, 380)
"""Test sentences that a nominee gets right, of which the baseline gets the first 380."""


def speedup(ratio):
    return {"ratio": ratio, "low": ratio - 0.05, "high": ratio + 0.05, "lower_bound": ratio - 0.04}


@pytest.fixture
def gated(job, stored, monkeypatch):
    """Gives a function that judges nominees, each by the sentences it gets right and its speed-up.

    `None` for the sentences makes a nominee that does not answer. It returns the result of the stage, and the verdict
    as it is kept.
    """
    kept = {}

    def keep(tracking, run_id, path: Path):
        if path.suffix == ".json":
            kept.update(json.loads(path.read_text(encoding="utf-8")))

    def predict(workload, executable: Path, examples, assets, report):
        answers = executable / "answers.npy"
        if not answers.exists():
            raise RuntimeError("NaN in layer 3")
        return np.load(answers)

    monkeypatch.setattr(Tracking, "log_metrics", lambda *_: None)
    monkeypatch.setattr(Tracking, "log_file", keep)
    monkeypatch.setattr(plots, "verdict", lambda *_, **__: None)
    monkeypatch.setattr(Job, "load", lambda job, folder: folder)
    monkeypatch.setattr(Job, "examples", lambda job, split: range(EXAMPLES))
    monkeypatch.setattr(TranslationWorkload, "predict", predict)
    monkeypatch.setattr(TranslationWorkload, "statistics", lambda workload, answers, examples, data: answers)

    def made(name, right):
        rows = np.full((EXAMPLES, 10), WRONG)
        rows[list(right or ())] = RIGHT
        return stored(name, {"answers.npy": rows} if right is not None else {}, BLEU=95.0)

    def gated(nominees, baseline=range(380), champion=None, failures=None, unfit="", naive=(), shared=0, **settings):
        answers = np.full((EXAMPLES, 10), WRONG)
        answers[list(naive)] = RIGHT
        monkeypatch.setattr(
            TranslationWorkload, "naive_answers", lambda *_: NaiveAnswers("the source as it is", answers)
        )
        candidates = {name: made(name, right) for name, (right, _) in nominees.items()}
        table = {name: {"cells": {"batch 1": {"speedup": speedup(ratio)}}} for name, (_, ratio) in nominees.items()}
        reigning = version_by_alias(Tracking().client, NAME, CHAMPION)
        if champion is not None:
            table[CHAMPION_NAME] = {"cells": {"batch 1": {"speedup": speedup(champion)}}}
        output = {
            "table": table,
            "noise_floor": 0.02,
            "champion": reigning.version if reigning else None,
            "champion_unfit": unfit,
        }
        outcomes = [{"check": "overlap", "split": split, "count": shared} for split in (TRAIN, TEST)]
        manifests = {TEST: Manifest(TEST, EXAMPLES, "d", Artifact("none", "d"))}
        results = {
            "check_labels": StageResult("check_labels", "c", manifests=manifests, output={"outcomes": outcomes}),
            "train": StageResult("train", "t", candidates=(made("baseline", baseline),)),
            "benchmark": StageResult("benchmark", "b", output=output, dropped=failures or {}),
            "nominate": StageResult("nominate", "n", candidates=tuple(candidates.values())),
        }
        settings = {"benchmark.batches": [1], "gate.minimum_speedup": 1.0, "gate.tolerance": 0.05, **settings}
        asked = job("gate", results, **settings)
        monkeypatch.setattr(asked.tracking.client, "set_tag", lambda *_: None)
        return SimpleNamespace(result=gate.run(asked), **kept)

    gated.made = made
    return gated


def tried(found):
    return [(trial["name"], trial["verdict"]) for trial in found.trials]


def test_the_verdict_says_what_of_the_test_split_was_seen_before(gated):
    nominee = {"quick": (GOOD, 3.0)}
    kept, left_out = ({"check_labels.quarantine": quarantine} for quarantine in (False, True))
    assert "**7 of the 400 test sentence pairs stand in another split" in gated(nominee, shared=7, **kept).markdown
    assert "another split" not in gated(nominee, shared=7, **left_out).markdown
    assert "another split" not in gated(nominee, **kept).markdown


def test_the_verdict_says_how_often_the_test_split_was_asked_before(gated):
    nominee = {"quick": (GOOD, 3.0)}
    assert "before" not in gated(nominee).markdown
    tracking = Tracking()
    for digest, verdict in (("d", "inconclusive"), ("d", "accept"), ("d", "inconclusive"), ("another", "accept")):
        tags = {TEST_SPLIT_TAG: digest, VERDICT_TAG: verdict}
        tracking.end_run(tracking.open_run(EXPERIMENT, "gate", tags), "FINISHED")
    tracking.open_run(EXPERIMENT, "gate", {TEST_SPLIT_TAG: "d", VERDICT_TAG: "accept"})  # has not ended
    found = gated(nominee)
    assert "on this test split in this experiment before: 3 (1 accept, 2 inconclusive)." in found.markdown
    assert found.earlier_verdicts == {"inconclusive": 2, "accept": 1}


def test_the_first_that_is_accepted_ends_the_trying(gated):
    found = gated({"first": (GOOD, 2.0), "second": (GOOD, 1.5)})
    assert tried(found) == [("first", "accept")]
    assert [candidate.name for candidate in found.result.candidates] == ["first"]
    assert found.result.output["accepted"]


def test_after_a_nominee_that_fails_the_next_is_tried_at_a_level_of_its_own(gated):
    found = gated({"first": (BAD, 2.0), "second": (GOOD, 1.5), "third": (GOOD, 1.4)})
    assert tried(found) == [("first", "regression"), ("second", "accept")]
    assert [trial["confidence"] for trial in found.trials] == pytest.approx([0.96, 0.995])
    assert found.verdict == "accept"
    assert "judged at confidence 0.995" in found.markdown


def test_without_a_nominee_the_test_split_is_not_touched(gated, monkeypatch):
    monkeypatch.setattr(Job, "examples", lambda job, split: pytest.fail("the test split was read"))
    found = gated({})
    assert (found.verdict, found.trials) == ("infeasible", [])
    assert not found.result.output["accepted"]


def test_a_nominee_that_can_not_be_judged_leaves_the_others_their_chance(gated):
    found = gated({"broken": (None, 2.0), "second": (GOOD, 1.5)})
    assert tried(found) == [("broken", "regression"), ("second", "accept")]
    assert found.trials[0]["failed"] == "RuntimeError: NaN in layer 3"
    assert "It could not be judged: RuntimeError: NaN in layer 3" in found.markdown


def test_where_none_can_be_judged_the_verdict_is_a_regression_with_the_reason(gated):
    found = gated({"broken": (None, 2.0)})
    assert found.verdict == "regression"
    assert "NaN in layer 3" in found.result.output["verdict"]["markdown"]


def test_a_baseline_that_nothing_can_be_held_against_is_named(gated):
    with pytest.raises(StageError, match="the baseline can not be judged: the reference metric is 0"):
        gated({"first": (GOOD, 2.0)}, baseline=())


def test_what_is_answered_without_a_model_stands_beside_the_baseline(gated):
    found = gated({"first": (GOOD, 2.0)}, naive=range(50))
    assert "Without a model, the source as it is gets BLEU " in found.markdown
    assert found.against_naive["rule"] == "the source as it is"
    assert found.against_naive["margin_lower"] > 0


@pytest.mark.parametrize("right", [range(380), range(2, 381), range(399)])
def test_a_baseline_no_better_than_an_answer_without_a_model_is_told_of_in_the_verdict(gated, right):
    found = gated({"first": (GOOD, 2.0)}, naive=right)
    assert found.verdict == "accept"  # what the nominee was held against is the baseline
    assert "**The baseline is not proved better than an answer without a model**" in found.markdown


def test_a_verdict_that_was_reached_stands_before_a_failure_to_reach_one(gated):
    found = gated({"broken": (None, 2.0), "second": (range(18, 380), 1.5)})
    assert found.verdict == found.trials[1]["verdict"] == "inconclusive"


@pytest.mark.parametrize("error", [ConnectionError("refused"), OSError(28, "No space left on device"), MemoryError()])
def test_what_ails_the_store_or_the_host_is_no_fault_of_the_nominee(gated, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(gate, "_try", fail)
    with pytest.raises(type(error)):
        gated({"first": (GOOD, 2.0)})


@pytest.mark.parametrize(
    ("right", "ratio", "baseline", "verdict"),
    [
        (BAD, 2.0, range(380), "regression"),
        (GOOD, 0.9, range(380), "regression"),  # too slow
        (GOOD, 1.05, range(380), "regression"),  # the lower bound 1.01 is within the noise floor
        (range(380), 2.0, range(100), "anomalous"),
        (range(18, 380), 2.0, range(380), "inconclusive"),
    ],
)
def test_what_is_not_proved_is_not_accepted(gated, right, ratio, baseline, verdict):
    found = gated({"nominee": (right, ratio)}, baseline=baseline)
    assert found.verdict == verdict
    assert not found.result.output["accepted"]
    assert found.result.candidates == ()


def test_answers_like_the_baselines_are_accepted_only_where_the_examples_prove_it(gated):
    alike = {"nominee": (range(380), 2.0)}
    assert gated(alike, **{"gate.tolerance": 0.01}).verdict == "accept"
    found = gated(alike, **{"gate.tolerance": 0.005})
    assert found.verdict == "inconclusive"
    assert "all 400 examples are scored alike; 598 would prove it" in found.markdown


@pytest.fixture
def champion(gated, version):
    """A champion as good as the baseline."""
    made = gated.made("champion of yesterday", range(380))
    promote(Tracking().client, NAME, version(made), None)
    return made


@pytest.mark.usefixtures("champion")
def test_a_nominee_slower_than_the_champion_is_a_regression(gated):
    assert gated({"nominee": (GOOD, 2.0)}, champion=2.05).verdict == "accept"
    assert gated({"nominee": (GOOD, 2.0)}, champion=2.12).verdict == "accept"  # 2.05 and 2.07: by noise
    found = gated({"other": (GOOD, 2.0)}, champion=3.0)
    assert found.verdict == "regression"
    assert "| not slower than the champion? | 2.00x against 3.00x | intervals no further apart than" in found.markdown
    assert "the noise floor of 0.02 | **no** |" in found.markdown


@pytest.mark.usefixtures("champion")
def test_a_nominee_worse_than_the_champion_is_a_regression_though_as_good_as_the_baseline(gated):
    found = gated({"nominee": (range(345), 2.0)}, baseline=range(340), champion=2.0)
    assert found.trials[0]["against_baseline"]["verdict"] == "accept"
    assert found.verdict == found.trials[0]["against_champion"]["verdict"] == "regression"


@pytest.mark.usefixtures("champion")
def test_a_champion_that_could_not_be_timed_is_not_replaced(gated):
    found = gated({"nominee": (GOOD, 2.0)}, failures={CHAMPION_NAME: "batch 1: signal SIGKILL (out of memory?)"})
    assert found.verdict == "inconclusive"
    assert "could not be timed: batch 1: signal SIGKILL (out of memory?)" in found.markdown


@pytest.mark.usefixtures("champion")
def test_a_champion_that_takes_other_inputs_is_judged_by_quality_alone(gated):
    reason = "it takes other inputs than this run has: KeyError: 'ids'"
    found = gated({"nominee": (GOOD, 2.0)}, failures={CHAMPION_NAME: reason}, unfit=reason)
    assert found.verdict == "accept"
    assert f"it can not be timed: {reason} | | unknown |" in found.markdown


def test_the_champion_itself_is_as_good_as_the_champion(gated, version):
    made = gated.made("nominee", GOOD)
    promote(Tracking().client, NAME, version(made), None)
    found = gated({"nominee": (GOOD, 2.0)}, champion=2.0)
    assert found.verdict == "accept"
    assert found.trials[0]["against_champion"] is None
    assert "| as good as the champion (version 1)? | the same files | | yes |" in found.markdown
