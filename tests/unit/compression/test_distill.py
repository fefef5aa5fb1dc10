"""A student learns its teacher's task from the teacher alone."""

import subprocess
import sys

import pytest

from optops.compression import distill
from optops.compression.distillation.losses import DistillationSettings
from optops.models.training import TrainingSettings


def test_a_smaller_student_learns_from_the_teachers_distribution_alone(reversing, tmp_path):
    student = reversing.build(feed_forward=32, seed=9)
    teacher = [array.copy() for array in reversing.model.get_weights()]
    history = distill(
        reversing.model,
        student,
        reversing.train,
        validate=reversing.accuracy,
        settings=TrainingSettings(**{**vars(reversing.settings), "epochs": 12}),
        distillation=DistillationSettings(alpha=1.0, temperature=2.0),
        checkpoints=tmp_path,
    )
    assert history.validation > 0.9
    assert history.validation == pytest.approx(reversing.accuracy(student))
    assert history.records[-1].scalars["soft"] < 0.2 * history.records[0].scalars["soft"]
    assert all((before == after).all() for before, after in zip(teacher, reversing.model.get_weights(), strict=True))


def test_the_package_is_imported_without_tensorflow_until_an_algorithm_is_used():
    code = "import sys, optops.compression; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_algorithm_is_an_attribute_error():
    with pytest.raises(ImportError, match="shrinkwrap"):
        from optops.compression import shrinkwrap  # noqa: F401
