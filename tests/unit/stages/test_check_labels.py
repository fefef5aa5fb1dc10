"""What check_labels refuses, what it leaves out, and which manifests it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from optops.pipeline import CALIBRATION, SPLITS, TEST, TRAIN, VALIDATION, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import RunReference
from optops.stages import check_labels
from optops.stages.base import StageError, new_job
from optops.tracking import Tracking
from optops.workloads.base import LabelReport, load_workload
from optops.workloads.label_checks import CheckOutcome

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {saved_model: model}
registry: {name: mine}
"""
EXAMPLES = 8


@pytest.fixture
def check(optops_home, tmp_path):
    """Gives a function that runs check_labels over data.

    Some examples of one split hold NaN; the first so many of the test stand in a training split a hundred times as
    large.
    """
    del optops_home
    (tmp_path / "data").mkdir()
    tracking = Tracking()

    def run(split, defective, leaking=0, **overrides):
        for seed, name in enumerate((TRAIN, VALIDATION, TEST)):
            x = np.random.default_rng(seed).normal(size=(EXAMPLES, 3))
            if name == split:
                x[list(defective), 0] = np.nan
            if name == TRAIN and leaking:
                others = np.random.default_rng(9).normal(size=(99 * EXAMPLES, 3))
                tested = np.random.default_rng(2).normal(size=(EXAMPLES, 3))
                x = np.concatenate([others, tested[:leaking], x[leaking:]])
            np.savez(tmp_path / "data" / f"{name}.npz", x=x, labels=np.arange(len(x)) % 2)
        recipe = parse_recipe(RECIPE, tmp_path / "mine.yaml", overrides)
        run_id = tracking.open_run(recipe.experiment, "check_labels", {})
        spec = make_spec("check_labels", recipe, RunReference("", recipe.experiment, "", ""), {})
        result = check_labels.run(replace(new_job(spec, tracking), run_id=run_id))
        return result, {s: json.loads(tracking.fetch(m.artifact).read_text()) for s, m in result.manifests.items()}

    return run


def test_a_critical_defect_fails_the_run_and_shows_the_example(check):
    with pytest.raises(StageError, match=r"not_finite in train: 1 \(12\.50%, limit 0\.00%\)") as caught:
        check(TRAIN, [5])
    assert "`check_labels.quarantine: true`" in str(caught.value)
    (shown,) = caught.value.details
    assert "train.npz:6: not_finite: array 'x' holds NaN or infinity" in shown


def test_quarantine_leaves_defective_training_examples_out_of_all_that_is_drawn_from_them(check):
    result, listed = check(TRAIN, [5], **{"check_labels.quarantine": True})
    assert {split: len(examples) for split, examples in listed.items()} == {
        **dict.fromkeys(SPLITS, EXAMPLES),
        **dict.fromkeys((TRAIN, CALIBRATION), EXAMPLES - 1),
    }
    assert listed[CALIBRATION].items() <= listed[TRAIN].items()
    assert result.output["quarantined"] == result.output["defects"] == 1
    _, sound = check(TRAIN, [])
    assert len(sound[TRAIN].items() - listed[TRAIN].items()) == 1


@pytest.mark.parametrize("split", [VALIDATION, TEST])
def test_quarantine_forgives_nothing_where_quality_is_measured(check, split):
    with pytest.raises(StageError, match=f"not_finite in {split}: 1") as caught:
        check(split, [5], **{"check_labels.quarantine": True})
    assert "quarantine" not in str(caught.value)


def test_defects_within_their_limit_stay(check):
    result, listed = check(TRAIN, [5], **{"check_labels.checks.not_finite.limit": 0.2})
    assert len(listed[TRAIN]) == EXAMPLES
    assert (result.output["quarantined"], result.output["defects"]) == (0, 1)


def test_a_quarantine_of_everything_is_refused(check):
    with pytest.raises(StageError, match="quarantine removed every training example"):
        check(TRAIN, range(EXAMPLES), **{"check_labels.quarantine": True})


def test_a_test_split_that_stands_in_training_is_refused_however_large_the_training_split_is(check):
    with pytest.raises(StageError, match=r"overlap in test: 8 \(100\.00%, limit 5\.00%\)") as caught:
        check(TEST, [], leaking=EXAMPLES)
    assert "overlap in train" not in str(caught.value)
    assert "test.npz:1: overlap: the same input stands in train, train.npz:792" in caught.value.details[0]


def test_quarantine_takes_what_the_test_measures_out_of_training_and_goes_on(check):
    result, listed = check(TEST, [], leaking=EXAMPLES, **{"check_labels.quarantine": True})
    assert result.output["quarantined"] == EXAMPLES
    assert len(listed[TEST]) == EXAMPLES
    assert not set(listed[TRAIN].values()) & set(listed[TEST].values())


def test_quarantine_does_not_forgive_what_else_the_test_has(check):
    with pytest.raises(StageError, match="not_finite in test: 1") as caught:
        check(TEST, [5], leaking=4, **{"check_labels.quarantine": True})
    assert "overlap" not in str(caught.value)


@pytest.mark.parametrize(("also", "offered"), [((), False), (("too_small",), True)])
def test_the_limit_of_a_check_that_is_fixed_is_no_remedy(tmp_path, also, offered):
    text = "{name: m, workload: image_classification, data: {classes: [a, b], train: a, validation: b, test: c}, "
    recipe = parse_recipe(text + "model: {}, registry: {name: m}}", tmp_path / "mine.yaml")
    over = [CheckOutcome(check, "critical", 0.0, TEST, 1, 0.1, False) for check in ("unreadable", *also)]
    report = LabelReport(over, [], frozenset())
    workload = load_workload("image_classification")
    with pytest.raises(StageError, match="unreadable in test: 1") as caught:
        check_labels.refuse_or_quarantine(recipe, workload, {}, report, tmp_path, print)
    assert "mend the data or remove what is defective" in str(caught.value)
    assert ("`check_labels.checks.NAME.limit`" in str(caught.value)) == offered


def test_a_split_that_a_corpus_leaves_empty_is_refused_with_what_to_give(check):
    with pytest.raises(StageError, match=r"split has no examples; .*, or more in `data\.corpus`"):
        check(TRAIN, [], data={"folder": "data", "corpus": "train.npz"})
