"""Each ratio makes a candidate of its own."""

from dataclasses import replace

import numpy as np
import pytest

from optops.models.keras import keras
from optops.pipeline import TRAIN, VALIDATION, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import Artifact, Manifest, RunReference, StageResult
from optops.stages import prune, train, training
from optops.stages.base import new_job
from optops.tracking import Tracking

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {keras: model.keras}
prune:
  method: magnitude
  ratios: [0.975, 0.98]
  train: {epochs: 1, batch_tokens: 16, warmup_steps: 1, replicas: 1, average_checkpoints: 1}
benchmark: {objective: size}
registry: {name: mine}
"""


@pytest.fixture
def pruned(optops_home, arrays):
    """Gives a function that runs `train` and `prune` on a small model and returns the result of the latter.

    It takes values of the recipe by dotted key.
    """
    del optops_home
    x = keras.Input((8,), name="x")
    model = keras.Model(x, keras.layers.Dense(3, name="scores")(keras.layers.Dense(64, activation="relu")(x)))
    model.save(arrays / "model.keras")
    tracking = Tracking()
    manifest = Manifest("", 1, "", Artifact("", ""))
    checked = StageResult("check_labels", "0", manifests=dict.fromkeys((TRAIN, VALIDATION), manifest))
    results = {"check_labels": (checked,)}

    def stage(recipe, name, module):
        run_id = tracking.open_run(recipe.experiment, name, {})
        spec = make_spec(name, recipe, RunReference("", recipe.experiment, "", run_id), results)
        job = replace(new_job(spec, tracking), run_id=run_id)
        return module.run(replace(job, _frames=job.workload.read(recipe.data)))

    def run(**overrides):
        recipe = parse_recipe(RECIPE, arrays / "mine.yaml", overrides)
        results["train"] = results["distill"] = (stage(recipe, "train", train),)
        return stage(recipe, "prune", prune)

    return run


def test_ratios_less_than_a_percent_apart_make_candidates_of_different_names(pruned):
    made = pruned().candidates
    assert [candidate.name for candidate in made] == ["baseline", "baseline pruned 97.5", "baseline pruned 98"]
    assert len({candidate.key for candidate in made}) == 3
    files = [Tracking().fetch(candidate.artifact) / "trainable" / "weights.npz" for candidate in made[1:]]
    zeros = []
    for file in files:
        with np.load(file) as weights:
            zeros.append(sum(int((array == 0).sum()) for array in weights.values() if array.ndim == 2))
    assert zeros[0] < zeros[1], "the second went on from the checkpoint of the first"


def test_a_ratio_at_which_nothing_goes_makes_no_candidate_and_says_so(pruned, capsys):
    result = pruned(**{"prune.method": "structured", "prune.ratios": [0.01, 0.5], "benchmark.objective": "latency"})
    assert [candidate.name for candidate in result.candidates] == ["baseline", "baseline pruned 50"]
    assert list(result.dropped) == ["baseline pruned 1"]
    assert "baseline pruned 1 is dropped: no more goes at this ratio" in capsys.readouterr().out


def test_a_pruned_model_whose_answers_are_no_numbers_is_dropped_by_name(pruned, monkeypatch):
    judge = training.judge_serving

    def judge_serving(job, folder, name):
        if name == "baseline pruned 97.5":
            raise training.NotFiniteError(f"{name}: accuracy is nan on validation")
        return judge(job, folder, name)

    monkeypatch.setattr(training, "judge_serving", judge_serving)
    result = pruned()
    assert [candidate.name for candidate in result.candidates] == ["baseline", "baseline pruned 98"]
    assert result.dropped == {"baseline pruned 97.5": "baseline pruned 97.5: accuracy is nan on validation"}


def test_a_pruned_model_whose_training_diverges_is_dropped_by_name_with_those_that_would_be_cut_from_it(pruned, capsys):
    result = pruned(**{"prune.train.learning_rate": 1e38})
    assert [candidate.name for candidate in result.candidates] == ["baseline"]
    assert list(result.dropped) == ["baseline pruned 97.5", "baseline pruned 98"]
    assert all("baseline-pruned-97.5: step 2: the loss is" in reason for reason in result.dropped.values())
    assert "baseline pruned 97.5, baseline pruned 98 dropped: " in capsys.readouterr().out
