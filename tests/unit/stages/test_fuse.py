"""An executable that does not compute what its model computes is dropped."""

from dataclasses import replace
from shutil import copytree

import numpy as np
import pytest

from optops.graph.lowering import lower
from optops.models.keras import keras
from optops.pipeline import CALIBRATION, TRAIN, VALIDATION, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import Artifact, Manifest, RunReference, StageResult
from optops.stages import fuse, quantize, train
from optops.stages.base import StageError, new_job
from optops.tracking import Tracking

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {keras: model.keras}
registry: {name: mine}
"""
ITEM = {"label": "baseline fp32 tensorflow", "quantize_label": "baseline fp32", "precision": "fp32"}


@pytest.fixture
def fused(optops_home, arrays):
    """Gives a function that trains nothing, plans fp32 and lowers the imported model to TensorFlow."""
    del optops_home
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,), name="x"), keras.layers.Dense(3, name="scores")])
    model.save(arrays / "model.keras")
    recipe, tracking = parse_recipe(RECIPE, arrays / "mine.yaml"), Tracking()
    manifest = Manifest("", 1, "", Artifact("", ""))
    splits = (TRAIN, CALIBRATION, VALIDATION)
    results = {"check_labels": (StageResult("check_labels", "0", manifests=dict.fromkeys(splits, manifest)),)}

    def stage(name, module, item=None):
        run_id = tracking.open_run(recipe.experiment, name, {})
        spec = make_spec(name, recipe, RunReference("", recipe.experiment, "", run_id), results, item)
        job = replace(new_job(spec, tracking), run_id=run_id)
        results[name] = (module.run(replace(job, _frames=job.workload.read(recipe.data))),)
        return results[name][0]

    results["prune"] = (stage("train", train),)
    item = {**ITEM, "candidate": results["prune"][0].candidates[0].key}
    stage("quantize", quantize, {**item, "runtime": ""})
    return lambda: stage("fuse", fuse, {**item, "runtime": "tensorflow"})


def test_an_executable_that_gives_other_answers_than_its_model_is_dropped(fused, monkeypatch):
    (executable,) = fused().candidates
    assert executable.metrics["parity"] == 1

    def lower_wrongly(trainable, plan, runtime, folder):
        wrong = folder.parent / "wrong"
        copytree(trainable, wrong)
        with np.load(trainable / "weights.npz") as weights:
            np.savez(wrong / "weights.npz", **{name: -value for name, value in weights.items()})
        return lower(wrong, plan, runtime, folder)

    monkeypatch.setattr(fuse, "lower", lower_wrongly)
    with pytest.raises(
        StageError, match=r"agrees with its model on 0\.0% .* fp32 must on 97%: the lowering is wrong, .* is dropped"
    ):
        fused()
