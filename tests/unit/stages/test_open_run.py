"""The MLflow run that a run of the flow is."""

from pathlib import Path

import pytest

from optops.cli.evaluate import recipe_of
from optops.pipeline import recipe_json
from optops.recipe_file import read_recipe
from optops.registry import RegistryError
from optops.stage_spec import RunReference, StageSpec
from optops.stages.execution import run_stage
from optops.tracking import Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"

pytestmark = pytest.mark.usefixtures("optops_home")


def opened(identity="", name="one", **settings):
    """Opens a run of the recipe under a label that never changes; returns its id."""
    changes = {"registry.experiment": "shared", **{key.replace("__", "."): value for key, value in settings.items()}}
    recipe = read_recipe(RECIPE, changes).model_copy(update={"name": name})
    reference = RunReference("", "shared", "", "scheduled__2026-11-30", identity)
    return run_stage(StageSpec("open_run", recipe_json(recipe), reference)).output["run_id"]


def test_runs_of_two_recipes_with_one_label_in_one_experiment_are_two():
    first, second = opened(), opened(name="two")
    assert first != second
    assert opened() == first


def test_runs_of_two_airflows_with_one_label_are_two():
    staging, production = opened("staging"), opened("production")
    assert staging != production
    assert (opened("staging"), opened("production")) == (staging, production)


def test_a_run_whose_recipe_was_edited_is_another_and_ends_the_one_before():
    before, other = opened("ours", gate__tolerance=0.02), opened("theirs")
    died = Tracking().open_run("shared", "train", {}, before)
    after = opened("ours", gate__tolerance=0.1)
    assert len({before, other, after}) == 3
    tracking = Tracking()
    states = [tracking.client.get_run(run_id).info.status for run_id in (before, died, other, after)]
    assert states == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    assert tracking.client.get_run(after).data.params["tolerance"].startswith("0.1 ")
    assert recipe_of(tracking, after, {}).gate.tolerance == 0.1


def test_a_run_whose_edit_was_taken_back_goes_on_in_its_first_and_ends_the_other():
    first, edited = opened("ours", gate__tolerance=0.02), opened("ours", gate__tolerance=0.1)
    assert opened("ours", gate__tolerance=0.02) == first
    client = Tracking().client
    assert [client.get_run(run_id).info.status for run_id in (first, edited)] == ["RUNNING", "KILLED"]


def test_a_run_that_was_killed_while_it_opened_is_completed():
    run_id = opened("ours")
    client = Tracking().client
    (path,) = client.list_artifacts(run_id)
    artifacts = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (artifacts / path.path).unlink()
    assert opened("ours") == run_id
    assert recipe_of(Tracking(), run_id, {}).name == "one"


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
