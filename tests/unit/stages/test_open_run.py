"""The MLflow run that a run of the flow is."""

from pathlib import Path

import pytest

from optops.pipeline import recipe_json
from optops.recipe_file import read_recipe
from optops.registry import RegistryError
from optops.stage_spec import RunReference, StageSpec
from optops.stages.execution import run_stage
from optops.tracking import Tracking

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


@pytest.mark.usefixtures("optops_home")
@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_registered_model_of_others_is_refused_before_anything_is_made(alias):
    recipe = read_recipe(RECIPE)
    client, name = Tracking().client, recipe.registry.name
    client.create_registered_model(name)
    client.set_registered_model_alias(name, alias, client.create_model_version(name, source="file:///x").version)
    spec = StageSpec("open_run", recipe_json(recipe), RunReference("", recipe.experiment, "", "one"))
    with pytest.raises(RegistryError, match=r"did not make it\. Move its alias .* or register under another name"):
        run_stage(spec)
    found = client.get_experiment_by_name(recipe.experiment)
    assert found is None or not client.search_runs([found.experiment_id])
