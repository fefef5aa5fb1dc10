"""What a training tells people of its validation."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from optops.models.keras import keras
from optops.pipeline import VALIDATION, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import RunReference
from optops.stages.base import StageError, new_job
from optops.stages.naive import warn_of_naive
from optops.stages.training import fit_model, judge_serving
from optops.tracking import Tracking
from optops.workloads.arrays.loss import labels_loss

RECIPE = """
name: mine
workload: arrays
data:
  folder: data
  train: train.npz
  validation: validation.npz
  test: test.npz
  metric: {function: "squares:error", name: squared error, higher_is_better: false}
model: {keras: model.keras, loss: mean_squared_error}
prune: {train: {epochs: 3, batch_tokens: 16, learning_rate: 0.05, warmup_steps: 1, average_checkpoints: 1}}
registry: {name: mine}
"""


def test_a_metric_of_which_less_is_better_is_shown_and_logged_in_its_own_sign(
    optops_home, tmp_path, monkeypatch, capsys
):
    (tmp_path / "squares.py").write_text("def error(outputs, labels):\n    return (outputs['y'][:, 0] - labels) ** 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "data").mkdir()
    for seed, split in enumerate(("train", "validation", "test")):
        x = np.random.default_rng(seed).normal(size=(64, 4)).astype(np.float32)
        np.savez(tmp_path / "data" / f"{split}.npz", x=x, labels=x.sum(axis=1))
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(1, name="y")])
    model.save(tmp_path / "model.keras")
    recipe = parse_recipe(RECIPE, tmp_path / "mine.yaml")
    tracking = Tracking()
    run_id = tracking.open_run(recipe.experiment, "prune", {})
    spec = make_spec("prune", recipe, RunReference("", recipe.experiment, "", run_id), {})
    job = replace(new_job(spec, tracking), run_id=run_id)
    splits = job.workload.read(recipe.data)
    job = replace(job, _frames={VALIDATION: splits[VALIDATION]})
    # Every line of progress, not one in two seconds.
    monkeypatch.setattr(job, "progress", job.log)

    loss = labels_loss("mean_squared_error", "labels")
    history = fit_model(job, model, "functional", splits["train"], loss, recipe.prune.train, tmp_path, "pruned")
    points = tracking.client.get_metric_history(run_id, "pruned.validation")
    logged = [point.value for point in sorted(points, key=lambda point: point.step)]
    assert logged == pytest.approx([-record.validation for record in history.records])
    assert history.best_epoch == 1 + int(np.argmin(logged))
    assert min(logged) > 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "squared error" in line]
    assert len(lines) >= len(logged)
    assert not [line for line in lines if "squared error -" in line]

    longer = recipe.prune.train.model_copy(update={"epochs": 4})
    with pytest.raises(StageError, match=r"pruned: .* its checkpoints are from a run with other settings"):
        fit_model(job, model, "functional", splits["train"], loss, longer, tmp_path, "pruned")


@pytest.mark.parametrize(("said", "warned"), [("ab", False), ("aa", True)])
def test_a_model_that_says_one_thing_of_everything_is_warned_of(said, warned, job, tmp_path, monkeypatch, capsys):
    examples = pd.DataFrame({"id": ["1", "2"], "source": ["x", "y"], "target": ["a", "b"]})
    judging = replace(job("train", {}), _frames={VALIDATION: examples})
    monkeypatch.setattr(judging.workload, "predict", lambda *_: list(said))
    monkeypatch.setattr(judging, "load", lambda folder: None)
    judge_serving(judging, tmp_path, "baseline")
    assert ("warning: baseline says 'a' of all 2 validation" in capsys.readouterr().out) == warned


@pytest.mark.parametrize(("value", "warned"), [(3.0, False), (1.5, True), (0.0, True), (math.nan, True)])
def test_a_baseline_no_better_than_an_answer_without_a_model_is_warned_of(value, warned, job, monkeypatch, capsys):
    examples = pd.DataFrame({"id": ["1"], "source": ["x"], "target": ["a"]})
    judging = replace(job("train", {}), _frames={VALIDATION: examples})
    monkeypatch.setattr(judging.workload, "metric", lambda *_: np.array([1.5]))
    warn_of_naive(judging, value)
    said = "on validation is no better than that of an answer without a model, the source as it is: 1.50"
    assert (said in capsys.readouterr().out) == warned
