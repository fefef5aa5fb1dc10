"""Which of the timed executables the gate may judge, in which order, and why the others may not."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from optops.measurement import plots
from optops.stage_spec import StageResult
from optops.stages import nominate
from optops.stages.champion import CHAMPION_NAME
from optops.tracking import Tracking

RIGHT, WRONG = [8, 8, 8, 7, 6, 5, 8, 7, 6, 5], [8, 8, 0, 0, 0, 0, 8, 7, 6, 5]
EXAMPLES = 400
SETTINGS = {"benchmark.batches": [1, 8], "gate.minimum_speedup": 1.0, "gate.tolerance": 0.05}


def timed(ratio, spread=0.01):
    ends = {"low": ratio - spread, "high": ratio + spread, "lower_bound": ratio - spread}
    return {"speedup": {"ratio": ratio, **ends}}


@pytest.fixture
def nominated(job, stored, monkeypatch):
    """Gives a function that nominates of executables, each with the sentences it gets right and its speed-ups by batch.

    It returns the result of the stage. The baseline gets 380 of 400 sentences right.
    """
    monkeypatch.setattr(Tracking, "log_metrics", lambda *_: None)
    monkeypatch.setattr(Tracking, "log_file", lambda *_: None)
    monkeypatch.setattr(plots, "quality_against_latency", lambda *_: None)

    def made(name, right):
        rows = np.full((EXAMPLES, 10), WRONG)
        rows[list(right)] = RIGHT
        return stored(name, {"predictions/validation.npy": rows}, BLEU=100 * len(right) / EXAMPLES)

    def nominated(executables, noise_floor=0.0, champion=0.0, higher_is_better=True, test_examples=400, **settings):
        candidates = tuple(made(name, right) for name, (right, _) in executables.items())
        table = {
            name: {"cells": {f"batch {batch}": timed(ratio) for batch, ratio in ratios.items()}}
            for name, (_, ratios) in executables.items()
        }
        if champion:
            table[CHAMPION_NAME] = {"cells": {"batch 1": timed(champion)}}
        output = {"table": table, "noise_floor": noise_floor, "champion": "1" if champion else None}
        results = {
            "check_labels": StageResult("check_labels", "c", output={"examples": {"test": test_examples}}),
            "train": StageResult("train", "t", candidates=(made("baseline", range(380)),)),
            "benchmark": StageResult("benchmark", "b", candidates=candidates, output=output),
        }
        asked = job("nominate", results, **{**SETTINGS, **settings})
        workload = copy(asked.workload)
        workload.higher_is_better = higher_is_better
        return nominate.run(replace(asked, workload=workload))

    return nominated


def names(result):
    return [candidate.name for candidate in result.candidates]


SAME = range(380)
FEW = range(1, 380)  # one sentence lost
SOME = range(8, 380)  # within the tolerance, and all but certain to be proved
MANY = range(20, 386)  # 20 lost and 6 gained: less than the tolerance allows, and not proved
TOO_MANY = range(30, 380)


def test_the_fastest_of_those_that_are_as_good_is_first(nominated):
    result = nominated({"slow": (range(381), {1: 1.5, 8: 1.5}), "fast": (SAME, {1: 2.0, 8: 1.2})})
    assert names(result) == ["fast", "slow"]
    assert result.output == {"infeasible": False}


@pytest.mark.parametrize(
    ("right", "ratios", "reason"),
    [
        (TOO_MANY, {1: 3.0, 8: 3.0}, "BLEU 87.50 on validation is worse by"),
        (SAME, {8: 3.0}, "it failed in the primary cell of the benchmark"),
        (SAME, {1: 3.0}, "it failed in the cell `batch 8` of the benchmark"),
        (SAME, {1: 1.005, 8: 3.0}, "speed-up 1.00, lower bound 0.99: less than the minimum of 1.00"),
        (SAME, {1: 3.0, 8: 0.9}, "slower than the baseline at batch 8: 0.90x"),
    ],
)
def test_what_can_not_pass_the_gate_is_not_nominated(nominated, right, ratios, reason):
    result = nominated({"good": (SAME, {1: 1.5, 8: 1.5}), "bad": (right, ratios)})
    assert names(result) == ["good"]
    assert reason in result.dropped["bad"]


def test_without_a_nominee_the_run_is_infeasible(nominated):
    result = nominated({"slow": (SAME, {1: 0.5, 8: 0.5})})
    assert (names(result), result.output) == ([], {"infeasible": True})


def test_a_speed_up_that_noise_explains_is_none(nominated):
    executables = {"same model": (range(381), {1: 1.03, 8: 1.0}), "faster": (SAME, {1: 1.2, 8: 1.2})}
    result = nominated(executables, noise_floor=0.04)
    assert names(result) == ["faster"]
    assert "less than the minimum of 1.04: closer to 1 the noise floor of 0.04" in result.dropped["same model"]
    # Where the smallest is wanted nobody claims that it is faster.
    assert "same model" in names(nominated(executables, noise_floor=0.04, **{"gate.minimum_speedup": 0.9}))


def test_another_cell_may_be_slower_by_as_much_as_noise_explains(nominated):
    executables = {"one": (SAME, {1: 1.5, 8: 0.97})}
    assert names(nominated(executables, noise_floor=0.04)) == ["one"]
    assert names(nominated(executables, noise_floor=0.01)) == []


def test_a_minimum_below_one_holds_for_the_other_cells_too(nominated):
    executables = {"small": (SAME, {1: 0.9, 8: 0.6}), "smaller": (range(381), {1: 0.9, 8: 0.4})}
    result = nominated(executables, noise_floor=0.02, **{"gate.minimum_speedup": 0.5})
    assert names(result) == ["small"]
    assert result.dropped["smaller"] == "slower than the baseline at batch 8: 0.40x, less than the minimum of 0.50"


def test_what_is_worse_and_slower_than_another_is_not_nominated(nominated):
    result = nominated({"one": (SAME, {1: 2.0, 8: 2.0}), "other": (FEW, {1: 1.5, 8: 3.0})})
    assert names(result) == ["one"]
    assert result.dropped["other"] == "worse and slower than one"


def test_of_a_metric_of_which_less_is_better_more_is_worse(nominated):
    executables = {"less": (FEW, {1: 2.0, 8: 2.0}), "more": (SAME, {1: 1.5, 8: 3.0})}
    result = nominated(executables, higher_is_better=False)
    assert result.dropped == {"more": "worse and slower than less"}


def test_what_is_faster_comes_first_where_the_test_split_is_large_enough_to_prove_it(nominated):
    executables = {"fast": (MANY, {1: 3.0, 8: 3.0}), "safe": (SOME, {1: 2.9, 8: 2.9})}
    assert names(nominated(executables, test_examples=EXAMPLES)) == ["safe", "fast"]
    assert names(nominated(executables, test_examples=100 * EXAMPLES)) == ["fast", "safe"]


def test_what_is_much_faster_is_tried_before_what_is_safe(nominated):
    executables = {"fast": (MANY, {1: 9.0, 8: 9.0}), "safe": (FEW, {1: 2.0, 8: 2.0})}
    assert names(nominated(executables)) == ["fast", "safe"]


def test_the_places_go_to_those_that_promise_most(nominated):
    executables = {
        "slowest": (range(381), {1: 1.2, 8: 1.2}),
        "slow": (SAME, {1: 1.3, 8: 1.3}),
        "safe": (SOME, {1: 2.4, 8: 2.4}),
        "fast": (MANY, {1: 2.5, 8: 2.5}),
    }
    result = nominated(executables, **{"gate.nominees": 2})
    assert names(result) == ["safe", "slow"]
    assert result.dropped["fast"] == (
        "beyond the 2 nominees that promise most; its chance to be proved on the test split is 29%"
    )


def test_a_gain_too_large_to_believe_is_tried_only_where_nothing_else_is_left(nominated):
    leak, sound = {"leak": (range(400), {1: 9.0, 8: 9.0})}, {"sound": (SAME, {1: 2.0, 8: 2.0})}
    result = nominated(leak | sound, **{"gate.anomalous_gain": 0.01})
    assert names(result) == ["sound"]
    assert result.dropped["leak"].endswith("its chance to be proved on the test split is 0%")
    assert names(nominated(leak, **{"gate.anomalous_gain": 0.01})) == ["leak"]


def test_what_is_slower_than_the_champion_is_not_nominated(nominated):
    executables = {"fast": (SAME, {1: 3.0, 8: 3.0}), "slow": (range(381), {1: 2.0, 8: 2.0})}
    assert names(nominated(executables, champion=2.05, noise_floor=0.04)) == ["fast", "slow"]
    result = nominated(executables, champion=3.0)
    assert names(result) == ["fast"]
    assert result.dropped["slow"] == "slower than the reigning champion: 2.00x against 3.00x"
    assert nominated(executables, champion=4.0).output == {"infeasible": True}


def test_what_is_less_likely_to_pass_drops_nothing_that_is_likelier(nominated):
    executables = {
        "first": (FEW, {1: 2.0, 8: 2.0}),
        "second": (SAME, {1: 1.9, 8: 2.0}),
        "noisy": (range(19, 400), {1: 2.1, 8: 2.0}),  # 19 lost and 20 gained: best and fastest, if it is true
    }
    assert not nominated(executables, **{"gate.tolerance": 0.02}).dropped


@pytest.mark.parametrize("most", [1, 2])
def test_the_gate_gets_no_more_nominees_than_it_may_try(nominated, most):
    executables = {f"model {lost}": (range(lost, 380), {1: 2.0 + lost, 8: 2.0}) for lost in range(3)}
    result = nominated(executables, **{"gate.nominees": most})
    assert names(result) == ["model 2", "model 1", "model 0"][:most]
    assert result.dropped["model 0"].startswith(f"beyond the {most} nominees that promise most")
