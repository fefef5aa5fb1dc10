"""A student learns its teacher's task from the teacher alone."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optops.compression import distill
from optops.compression.distillation.losses import DistillationSettings
from optops.models.keras import keras
from optops.models.training import PairBatches, TrainingSettings, held_out_likelihood
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer


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


def test_the_example_of_the_docs_runs_and_its_student_learns():
    page = Path(__file__).parents[3] / "docs" / "extending.md"
    section = page.read_text(encoding="utf-8").partition("## Compression without the pipeline")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    keras.utils.set_random_seed(1)
    sizes = {"vocabulary": 14, "width": 32, "heads": 2, "feed_forward": 64, "encoder_layers": 2, "decoder_layers": 2}
    teacher = Transformer(TransformerConfig.uniform(**sizes, dropout=0.0))
    random = np.random.default_rng(0)
    digits = [random.integers(4, 14, random.integers(2, 6)).tolist() for _ in range(1200)]
    pairs = [[*row, 2] for row in digits], [row[::-1] for row in digits]
    names = {
        "teacher": teacher,
        "sources": pairs[0][:1000],
        "targets": pairs[1][:1000],
        "held_out_sources": pairs[0][1000:],
        "held_out_targets": pairs[1][1000:],
    }
    before = held_out_likelihood(PairBatches(names["held_out_sources"], names["held_out_targets"], 1024, 1)(1))
    untrained = before(teacher)
    exec(code, names)
    assert before(names["student"]) > untrained + 0.3
    assert names["small"].count_params() < names["student"].count_params()
    assert before(names["small"]) > untrained + 0.3
