"""Every decision about quality is a paired test on shared resamples, whatever the statistics of an example are."""

from types import SimpleNamespace

import numpy as np
import pytest

from optops.sections import Gate
from optops.stages.base import StageError
from optops.stages.judgement import Sample, bootstrap_margins, judge
from optops.workloads.base import load_workload
from optops.workloads.detection.average_precision import detection_statistics
from optops.workloads.detection.boxes import Box


@pytest.fixture
def job():
    return SimpleNamespace(
        recipe=SimpleNamespace(gate=Gate(tolerance=0.1), seed=1), workload=load_workload("detection")
    )


def sample(found_per_image, images=30):
    """A detector that finds the one box of each image, and beside it boxes where nothing is."""
    box = Box(label="disc", left=10, top=10, right=30, bottom=30)
    right = {"box": [10.0, 10.0, 30.0, 30.0], "class": "disc", "score": 0.9}
    wrong = {"box": [60.0, 60.0, 80.0, 80.0], "class": "disc", "score": 0.1}
    predictions = [[right] + [wrong] * (found_per_image - 1)] * images
    statistics = detection_statistics(predictions, [[box]] * images, ["disc"])
    return Sample(statistics, float(load_workload("detection").metric(statistics)[0]))


def test_models_that_find_different_numbers_of_boxes_are_compared(job):
    few, many = sample(1), sample(4)
    assert few.statistics.shape != many.statistics.shape
    result = judge(job, many, few, "many")
    assert result.margin == pytest.approx(0.1 * few.metric)
    np.testing.assert_allclose(bootstrap_margins(job, many, few), 0.1 * few.metric)


def test_models_that_answered_different_examples_are_not(job):
    with pytest.raises(StageError, match="statistics of 29 and of 30 examples can not be compared"):
        judge(job, sample(1, 29), sample(1), "fewer")
