"""The MLflow run that a run of the flow is."""

from pathlib import Path

import pytest

from optops.pipeline import recipe_json
from optops.recipe_file import read_recipe
from optops.stage_spec import RunReference, StageSpec
from optops.stages.execution import run_stage

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"


@pytest.mark.usefixtures("optops_home")
def test_runs_of_two_recipes_with_one_label_in_one_experiment_are_two():
    def opened(name):
        recipe = read_recipe(RECIPE, {"registry.experiment": "shared"}).model_copy(update={"name": name})
        spec = StageSpec("open_run", recipe_json(recipe), RunReference("", "shared", "", "scheduled__2026-11-30"))
        return run_stage(spec).output["run_id"]

    first, second = opened("one"), opened("two")
    assert first != second
    assert opened("one") == first
