"""Jobs of any stage over a real MLflow store, from what the stages before handed on, and what they work with."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optops.candidate import Artifact, Candidate, digest_folder
from optops.pipeline import STAGES, make_spec
from optops.recipe_file import read_recipe
from optops.registry import ARTIFACT_TAG, CANDIDATE_TAG, DIGEST_TAG
from optops.stage_spec import RunReference, StageResult
from optops.stages.base import Job, new_job
from optops.tracking import Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"
REGISTERED = "travel_phrases_en_de"


@pytest.fixture
def arrays(tmp_path) -> Path:
    """A folder with `data/` for a recipe of arrays: 32 examples a split, of 8 numbers and one of three classes."""
    (tmp_path / "data").mkdir()
    for seed, split in enumerate(("train", "validation", "test")):
        x = np.random.default_rng(seed).normal(size=(32, 8)).astype(np.float32)
        np.savez(tmp_path / "data" / f"{split}.npz", x=x, labels=x[:, :3].argmax(axis=1))
    return tmp_path


@pytest.fixture
def job(optops_home, tmp_path) -> Callable[..., Job]:
    """Gives a function that makes the job of a stage.

    It takes the stage's name, results by the name of the stage that made them (what is not given is empty), and values
    of the recipe by dotted key.
    """
    del optops_home
    tracking = Tracking()
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "validation", "test"):
        for language in ("en", "de"):
            (data / f"{split}.{language}").write_text("a\n", encoding="utf-8")

    def make(stage, results, **overrides) -> Job:
        recipe = read_recipe(RECIPE, {"data.folder": str(data), **overrides})
        given = {name: (results.get(name, StageResult(name, f"{name}-1")),) for name in STAGES[stage].reads}
        spec = make_spec(stage, recipe, RunReference("", recipe.experiment, "", "run"), given)
        return replace(new_job(spec, tracking), run_id="none")

    return make


@pytest.fixture
def stored(optops_home) -> Callable[..., Candidate]:
    """Gives a function that makes an executable whose files are among the copies that this machine keeps.

    It takes the name, arrays by their place among the files, and metrics.
    """

    def make(name, files, **metrics) -> Candidate:
        folder = optops_home / "made"
        folder.mkdir()
        for place, array in files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / place, array)
        (folder / "name.txt").write_text(name, encoding="utf-8")
        digest = digest_folder(folder)
        kept = optops_home / "artifacts" / digest
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, kept / "files", dirs_exist_ok=True)
        shutil.rmtree(folder)
        facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": False}
        return Candidate(f"fuse-{name}", name, "fuse", (), **facts, artifact=Artifact("none", digest), metrics=metrics)

    return make


@pytest.fixture
def version(optops_home) -> Callable[[Candidate], str]:
    """Gives a function that makes a version from a candidate, as `register` does."""
    del optops_home
    client = Tracking().client
    client.create_registered_model(REGISTERED)

    def make(nominee) -> str:
        tags = {CANDIDATE_TAG: nominee.key, ARTIFACT_TAG: nominee.artifact.uri, DIGEST_TAG: nominee.artifact.digest}
        return str(client.create_model_version(REGISTERED, source="file:///nowhere", tags=tags).version)

    return make
