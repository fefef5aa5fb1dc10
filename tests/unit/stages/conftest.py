"""A job of any stage over a real MLflow store, from what the stages before it handed on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from optops.pipeline import STAGES, make_spec
from optops.recipe_file import read_recipe
from optops.stage_spec import RunReference, StageResult
from optops.stages.base import Job, new_job
from optops.tracking import Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"


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
