"""The examples that a stage is given: those of the manifests, as they were when they were checked."""

import json
from dataclasses import replace

import numpy as np
import pytest

from optops.pipeline import SPLITS, TEST, TRAIN, VALIDATION, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import Manifest, RunReference, StageResult
from optops.stages.base import StageError, new_job
from optops.tracking import Tracking

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {saved_model: model}
registry: {name: mine}
"""


@pytest.fixture
def job(optops_home, tmp_path):
    """Gives a function that makes a stage's job; the manifest of train lacks the first example, as a defective one."""
    del optops_home
    (tmp_path / "model").mkdir()
    (tmp_path / "data").mkdir()
    for seed, split in enumerate((TRAIN, VALIDATION, TEST)):
        write(tmp_path, split, np.random.default_rng(seed).normal(size=(4, 3)))
    recipe, tracking = parse_recipe(RECIPE, tmp_path / "mine.yaml"), Tracking()
    run_id = tracking.open_run(recipe.experiment, "check_labels", {})

    def make(stage, manifests):
        checked = StageResult("check_labels", "check_labels-1", manifests=manifests)
        spec = make_spec(stage, recipe, RunReference("", recipe.experiment, "", ""), {"check_labels": (checked,)})
        return replace(new_job(spec, tracking), run_id=run_id)

    workload, manifests = make("train", {}).workload, {}
    splits = workload.read(recipe.data)
    for split in SPLITS:
        examples = splits[split][1:] if split == TRAIN else splits.get(split, splits[TRAIN])
        listed = tmp_path / f"{split}.json"
        listed.write_text(json.dumps(dict(zip(examples["id"], workload.digests(examples), strict=True))))
        manifests[split] = Manifest(split, len(examples), "digest", tracking.log_file(run_id, listed, "manifests"))
    return lambda stage: make(stage, manifests)


def write(folder, split, x):
    np.savez(folder / "data" / f"{split}.npz", x=x, labels=np.arange(len(x)))


def test_a_stage_is_given_the_examples_of_the_manifest_alone(job):
    training = job("train")
    assert list(training.examples(TRAIN)["id"]) == list(training._read_examples(training.manifest(TRAIN))["id"])
    assert len(training.examples(TRAIN)) == 3
    assert len(training.examples(VALIDATION)) == 4


def test_a_stage_may_not_see_a_split_that_it_does_not_declare(job):
    with pytest.raises(StageError, match=r"train may not see the split 'test'; it may see \['train', 'validation'\]"):
        job("train").examples(TEST)


def test_examples_that_are_gone_since_they_were_checked_stop_a_stage(job, tmp_path):
    write(tmp_path, TEST, np.load(tmp_path / "data" / "test.npz")["x"][:3])
    with pytest.raises(StageError, match=r"1 examples of the manifest 'test' are gone, first .*start a new run"):
        job("gate").examples(TEST)


def test_examples_that_were_edited_since_they_were_checked_stop_a_stage(job, tmp_path):
    x = np.load(tmp_path / "data" / "test.npz")["x"]
    x[1] = 0.5
    write(tmp_path, TEST, x)
    with pytest.raises(StageError, match="1 examples of the manifest 'test' changed since check_labels, first "):
        job("gate").examples(TEST)
