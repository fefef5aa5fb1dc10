"""Every decision about quality is a paired test on shared resamples, whatever the statistics of an example are."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from optops.sections import Gate
from optops.stages.base import StageError, allowed_loss, decimals_of
from optops.stages.judgement import bootstrap_margins, judge, judge_against_champion, sample_of, unprovable
from optops.stages.training import NotFiniteError, judge_serving
from optops.workloads.base import load_workload
from optops.workloads.detection.average_precision import detection_statistics
from optops.workloads.detection.boxes import Box


@pytest.fixture
def job():
    return SimpleNamespace(
        recipe=SimpleNamespace(gate=Gate(tolerance=0.1), seed=1), workload=load_workload("detection")
    )


def detector(job, found_per_image, images=30):
    """A detector that finds the one box of each image, and beside it boxes where nothing is."""
    box = Box(label="disc", left=10, top=10, right=30, bottom=30)
    right = {"box": [10.0, 10.0, 30.0, 30.0], "class": "disc", "score": 0.9}
    wrong = {"box": [60.0, 60.0, 80.0, 80.0], "class": "disc", "score": 0.1}
    predictions = [[right] + [wrong] * (found_per_image - 1)] * images
    return sample_of(job, detection_statistics(predictions, [[box]] * images, ["disc"]))


def test_models_that_find_different_numbers_of_boxes_are_compared(job):
    few, many = detector(job, 1), detector(job, 4)
    result = judge(job, many, few, "many")
    assert result.margin == pytest.approx(0.1 * few.metric)
    np.testing.assert_allclose(bootstrap_margins(job, many, few), 0.1 * few.metric)


@pytest.fixture
def mean_job():
    """A job whose metric is the mean of one number an example."""

    def metric(values, weights=None):
        return values.mean(keepdims=True) if weights is None else weights @ values / len(values)

    return SimpleNamespace(
        recipe=SimpleNamespace(gate=Gate(tolerance=0.1), seed=1),
        workload=SimpleNamespace(
            metric=metric, higher_is_better=True, metric_name="score", fails_whole=True, examples_name="examples"
        ),
    )


@pytest.fixture
def of(mean_job):
    """Gives a function that makes the sample of a model with these scores."""
    return lambda values: sample_of(mean_job, np.asarray(values, np.float64))


def test_a_champion_that_has_sunk_below_zero_can_be_replaced(mean_job, of):
    noise = np.random.default_rng(0).normal(0, 0.1, 200)
    champion, nominee = of(noise - 3.0), of(noise + 0.5)
    with pytest.raises(StageError, match="no meaningful tolerance"):
        judge(mean_job, nominee, champion, "nominee")
    assert judge_against_champion(mean_job, nominee, champion, "nominee", 0.95).verdict == "accept"
    assert judge_against_champion(mean_job, of(noise - 3.4), champion, "nominee", 0.95).verdict == "regression"


def test_a_large_gain_over_the_champion_that_is_not_proved_is_inconclusive(mean_job, of):
    # Right on 10 of 20, and on 13 of the same 20: 30 % more, by luck perhaps.
    champion = of([1.0] * 10 + [0.0] * 10)
    nominee = of([1.0] * 5 + [0.0] * 5 + [1.0] * 8 + [0.0] * 2)
    result = judge_against_champion(mean_job, nominee, champion, "nominee", 0.95)
    assert result.margin_lower < 0 < result.difference
    assert result.verdict == "inconclusive"


def test_models_that_answered_different_examples_are_not(job):
    with pytest.raises(StageError, match="statistics of 29 and of 30 examples can not be compared"):
        judge(job, detector(job, 1, 29), detector(job, 1), "fewer")


@pytest.mark.parametrize("nominees", [1, 2, 3])
def test_all_nominees_together_are_accepted_by_luck_no_more_often_than_one(nominees):
    gate = Gate(nominees=nominees, confidence=0.9)
    levels = [1 - gate.confidence_of(number, nominees) for number in range(1, nominees + 1)]
    assert sum(levels) == pytest.approx(0.1)
    assert levels[0] >= 0.0799


def test_resamples_that_can_not_give_a_nominees_bound_are_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"100 resamples can not give a bound at 0\.995.*set resamples to 200 or more"):
        Gate(resamples=100)
    assert Gate(resamples=100, nominees=1).resamples == 100


@pytest.mark.parametrize(
    ("tolerance", "metric", "decimals"), [(0.02, 40.0, 2), (0.05, 0.003, 5), (0.1, 1.0, 2), (0.0, 5.0, 3)]
)
def test_a_metric_is_written_with_as_many_decimals_as_its_tolerance_needs(mean_job, tolerance, metric, decimals):
    mean_job.recipe.gate = Gate(tolerance=tolerance)
    mean_job.baseline = SimpleNamespace(metrics={"score": metric})
    assert decimals_of(mean_job) == decimals


@pytest.mark.parametrize(("metric", "higher_is_better"), [(-0.4, True), (0.0, True), (-3.0, False)])
def test_a_share_of_a_baseline_that_has_none_is_refused_at_once(mean_job, metric, higher_is_better):
    mean_job.baseline = SimpleNamespace(metrics={"score": metric})
    mean_job.workload.higher_is_better = higher_is_better
    with pytest.raises(StageError, match=r"a share of 0\.1 is no tolerance: set `gate\.tolerance_kind: absolute`"):
        allowed_loss(mean_job)
    mean_job.recipe.gate = Gate(tolerance=0.1, tolerance_kind="absolute")
    assert allowed_loss(mean_job) == 0.1


def test_a_baseline_without_errors_may_be_held_to_a_share_of_them(mean_job):
    mean_job.workload.higher_is_better = False
    mean_job.baseline = SimpleNamespace(metrics={"score": 0.0})
    assert allowed_loss(mean_job) == 0.0


def test_a_model_whose_answers_are_no_numbers_is_refused_by_name(mean_job):
    rows = np.array([0.5, np.nan])
    mean_job.workload.predict = lambda *_: [0.5, np.nan]
    mean_job.workload.statistics = lambda *_: rows
    mean_job.recipe.data = None
    job = SimpleNamespace(**vars(mean_job), load=lambda folder: None, examples=lambda split: rows)
    with pytest.raises(NotFiniteError, match="baseline int8: score is nan on validation"):
        judge_serving(job, Path("unused"), "baseline int8")


@pytest.mark.parametrize("fails_whole", [True, False])
@pytest.mark.parametrize("examples", [2, 14, 20, 40, 400, 2000])
def test_what_is_forecast_of_answers_alike_is_what_the_gate_decides(mean_job, of, examples, fails_whole):
    mean_job.workload.fails_whole = fails_whole
    gate = Gate(tolerance=0.02)
    mean_job.recipe.gate = gate
    alike = of([1.0] * examples)
    result = judge(mean_job, alike, alike, "nominee", gate.confidence_of(1, gate.nominees))
    doubt = unprovable(gate, examples, mean_job.workload)
    assert (doubt is None) <= (result.verdict == "accept")
    if result.verdict == "inconclusive":
        provable = result.smallest_provable_tolerance
        assert (f"{provable:.1%}" if provable is not None else "fewer than 5 test examples prove nothing") in doubt
    elif not fails_whole:
        assert doubt is None


def test_a_baseline_whose_quality_is_no_number_is_refused_by_name(mean_job):
    mean_job.baseline = SimpleNamespace(metrics={"score": float("nan")})
    with pytest.raises(StageError, match="baseline's score is nan on validation: labels or outputs hold"):
        allowed_loss(mean_job)
