"""A model that int8 hurts is trained for its plan, and what was trained goes on; without the setting nothing is."""

from dataclasses import replace

import numpy as np
import pytest

from optops.models.keras import keras
from optops.pipeline import CALIBRATION, TRAIN, VALIDATION, make_spec
from optops.precision import PrecisionPlan
from optops.recipe_file import parse_recipe
from optops.stage_spec import Artifact, Manifest, RunReference, StageResult
from optops.stages import fuse, plan, quantize, train
from optops.stages.base import new_job
from optops.tracking import Tracking

L = keras.layers
RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {keras: model.keras}
quantize: {precisions: [int8]}
fuse: {runtimes: [onnxruntime]}
registry: {name: mine}
"""
ON = {"quantize.train": {"epochs": 8, "warmup_steps": 8, "replicas": 1}}


def write_model_and_data(folder):
    """Channels of very uneven size, which the weights that read them make up for; labels are what the model says."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    tensor = L.ReLU()(L.Conv2D(8, 3, padding="same")(image))
    random = np.random.default_rng(1)
    for _ in range(3):
        depthwise, pointwise = L.DepthwiseConv2D(3, padding="same"), L.Conv2D(8, 1)
        tensor = L.ReLU()(pointwise(L.ReLU()(depthwise(tensor))))
        scales = np.exp(2 * random.normal(size=(8, 1)))
        depthwise.depthwise_kernel.assign(depthwise.depthwise_kernel * scales)
        pointwise.kernel.assign(pointwise.kernel / scales)
    scores = L.Dense(5, name="scores")
    model = keras.Model(image, scores(L.GlobalAveragePooling2D()(tensor)))
    (folder / "data").mkdir()
    for seed, (split, count) in enumerate({"train": 256, "validation": 200, "test": 10}.items()):
        drawn = np.random.default_rng(seed)
        images = drawn.normal(size=(count, 12, 12, 3)) + drawn.normal(size=(count, 1, 1, 3))
        given = model(images.astype(np.float32)).numpy()
        if split == "train":
            scores.bias.assign(-given.mean(axis=0))
            given += scores.bias.numpy()
        arrays = {"image": images.astype(np.float32), "labels": given.argmax(axis=-1)}
        np.savez(folder / "data" / f"{split}.npz", **arrays)
    model.save(folder / "model.keras")


class Run:
    """The stages from `train` to `fuse`, with the splits as they are."""

    def __init__(self, folder, overrides):
        self.recipe, self.tracking = parse_recipe(RECIPE, folder / "mine.yaml", overrides), Tracking()
        manifest = Manifest("", 1, "", Artifact("", ""))
        checked = StageResult("check_labels", "0", manifests=dict.fromkeys((TRAIN, CALIBRATION, VALIDATION), manifest))
        self.results = {"check_labels": (checked,)}

    def stage(self, name, module, item=None):
        run_id = self.tracking.open_run(self.recipe.experiment, name, {})
        reference = RunReference("", self.recipe.experiment, "", run_id)
        job = replace(
            new_job(make_spec(name, self.recipe, reference, self.results, item), self.tracking), run_id=run_id
        )
        splits = job.workload.read(self.recipe.data)
        result = module.run(replace(job, _frames={**splits, CALIBRATION: splits[TRAIN][:64]}))
        self.results[name] = (result,)
        return result

    def to_quantize(self):
        self.results["prune"] = (self.stage("train", train),)
        (item,) = self.stage("plan", plan).output["quantize"]
        return item, self.stage("quantize", quantize, item)

    def plan_of(self, result):
        return PrecisionPlan.load(self.tracking.fetch(Artifact(**result.output["plan"])))


@pytest.fixture
def folder(optops_home, tmp_path):
    write_model_and_data(tmp_path)
    return tmp_path


def test_what_was_trained_is_lowered_and_descends_from_the_model(folder, capsys):
    run = Run(folder, {**ON, "gate.tolerance": 0.13})
    _, result = run.to_quantize()
    (baseline,), (trained,) = run.results["train"][0].candidates, result.candidates
    assert trained.parents == (baseline.key,)
    assert trained.trainable
    made = run.plan_of(result)
    assert set(made.notes) == {"scores"}
    assert not made.bias_corrections
    said = capsys.readouterr().out
    assert "it is trained for it" in said
    assert "baseline-trained-for-int8: 8 epochs" in said

    (item,) = run.results["plan"][0].output["fuse"]
    (executable,) = run.stage("fuse", fuse, item).candidates
    assert executable.parents == (trained.key,)
    assert executable.metrics["accuracy"] >= baseline.metrics["accuracy"] - 10
    assert executable.metrics["nodes_quantized"] == 7


def test_what_training_does_not_mend_goes_back_to_float(folder, capsys):
    run = Run(folder, {"quantize.train": {"epochs": 1, "learning_rate": 1e-6, "replicas": 1}, "gate.tolerance": 0.02})
    _, result = run.to_quantize()
    assert not result.candidates
    assert any("the judge wants it in float" in note for note in run.plan_of(result).notes.values())
    assert "layers go back to float instead" in capsys.readouterr().out


def test_what_can_not_be_trained_goes_back_to_float(folder, capsys):
    whole = keras.models.load_model(folder / "model.keras")
    constrained = L.Conv2D(8, 3, padding="same", kernel_constraint=keras.constraints.MaxNorm(100))
    tensor = L.BatchNormalization()(constrained(whole.input))
    for layer in whole.layers[2:]:
        tensor = layer(tensor)
    constrained.set_weights(whole.layers[1].get_weights())
    keras.Model(whole.input, tensor).save(folder / "model.keras")
    run = Run(folder, {**ON, "gate.tolerance": 0.13})
    _, result = run.to_quantize()
    assert not result.candidates
    assert "can not be trained for int8" in capsys.readouterr().out


def test_what_is_good_enough_is_not_trained(folder, capsys):
    run = Run(folder, {**ON, "gate.tolerance": 0.9})
    item, result = run.to_quantize()
    assert item["train"]["epochs"] == 8
    assert not result.candidates
    assert "good enough in int8 without training" in capsys.readouterr().out


def test_without_the_setting_nothing_is_trained(folder):
    item, result = Run(folder, {"gate.tolerance": 0.9}).to_quantize()
    assert "train" not in item
    assert not result.candidates
