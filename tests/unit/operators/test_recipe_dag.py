"""The DAG of a recipe: its tasks, what they follow and when they run, its form, its schedule, its page."""

import pytest
from airflow.sdk import Asset, TriggerRule
from airflow.sdk.definitions.asset import AssetUniqueKey
from airflow.serialization.serialized_objects import DagSerialization

from optops.dag import recipe_dag
from optops.operators.stages import OPERATORS
from optops.pipeline import FLOW, ORDER
from optops.recipe_file import RecipeError

EXTRA_TASKS = {"quantize_items", "fuse_items", "approve"}


@pytest.fixture
def dag_of(recipe_file):
    """Returns a function that builds the DAG of the recipe with more sections."""
    return lambda more="": recipe_dag(recipe_file(more))


def test_every_stage_is_a_task_and_little_else(dag_of):
    assert set(dag_of().task_ids) == set(ORDER) | EXTRA_TASKS


def test_every_stage_has_its_operator():
    assert list(OPERATORS) == list(ORDER)


def test_the_shape_does_not_depend_on_what_is_off(dag_of):
    def edges(dag):
        return {(up, task.task_id) for task in dag.tasks for up in task.upstream_task_ids}

    assert edges(dag_of()) == edges(dag_of("fuse: off\napproval: {mode: required}\n"))


def test_every_task_comes_after_all_that_it_reads(dag_of):
    dag = dag_of()
    for stage in FLOW:
        before = {task.task_id for task in dag.get_task(stage.name).get_flat_relatives(upstream=True)}
        assert set(stage.reads) <= before


def test_approval_stands_between_register_and_promote(dag_of):
    dag = dag_of()
    assert dag.get_task("approve").upstream_task_ids == {"register"}
    assert dag.get_task("promote").upstream_task_ids == {"approve"}


def test_the_run_ends_with_the_task_that_closes_it(dag_of):
    dag = dag_of()
    assert [task.task_id for task in dag.tasks if not task.downstream_task_ids] == ["close_run"]
    closing = dag.get_task("close_run")
    assert closing.trigger_rule == TriggerRule.ALL_DONE_SETUP_SUCCESS
    assert closing.is_teardown and closing.on_failure_fail_dagrun, "or a run that is stopped is never closed"


def test_a_skipped_stage_does_not_skip_what_follows(dag_of):
    dag = dag_of()
    for name in ("prune", "plan", "register", "approve", "promote"):
        assert dag.get_task(name).trigger_rule == TriggerRule.NONE_FAILED


def test_a_failed_item_stops_only_what_stands_on_it(dag_of):
    dag = dag_of()
    assert dag.get_task("fuse").trigger_rule == TriggerRule.ALL_DONE
    assert dag.get_task("benchmark").trigger_rule == TriggerRule.ALL_DONE_MIN_ONE_SUCCESS


@pytest.mark.parametrize("name", ["quantize", "fuse"])
def test_mapped_stages_expand_over_their_list_and_show_labels(dag_of, name):
    task = dag_of().get_task(name)
    assert task.is_mapped
    assert f"{name}_items" in task.upstream_task_ids
    assert "label" in task.map_index_template


def test_the_dag_survives_serialization(dag_of):
    dag = dag_of("schedule: {cron: '0 3 * * 1', asset: 'file:///labels'}\n")
    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert set(again.task_ids) == set(dag.task_ids)


def test_the_same_recipe_gives_the_same_dag(recipe_file):
    path = recipe_file()
    assert DagSerialization.serialize_dag(recipe_dag(path)) == DagSerialization.serialize_dag(recipe_dag(path))


def test_two_runs_at_once_are_allowed_and_none_is_caught_up(dag_of):
    dag = dag_of("schedule: {cron: '@daily'}\n")
    assert dag.max_active_runs == 2
    assert dag.catchup is False


@pytest.mark.parametrize(
    ("schedule", "timetable"),
    [
        ("", "NullTimetable"),
        ("schedule: {cron: '0 3 * * 1'}\n", "CronTriggerTimetable"),
        ("schedule: {cron: '@quarterly'}\n", "CronTriggerTimetable"),
        ("schedule: {asset: 's3://bucket/labels'}\n", "AssetTriggeredTimetable"),
        ("schedule: {cron: '0 3 * * 1', asset: 's3://bucket/labels'}\n", "AssetOrTimeSchedule"),
        ("schedule: {}\n", "NullTimetable"),
    ],
)
def test_the_schedule_is_the_recipes(dag_of, schedule, timetable):
    assert type(dag_of(schedule).timetable).__name__ == timetable


def test_promoting_announces_the_model_as_the_asset_that_its_uri_names(dag_of):
    (model,) = dag_of().get_task("promote").outlets
    waited_for = Asset("mlflow://registered-models/phrases_en_de")
    assert AssetUniqueKey.from_asset(model) == AssetUniqueKey.from_asset(waited_for)


def test_the_page_shows_what_would_run_and_the_recipe(dag_of):
    page = dag_of().doc_md
    assert "Translates phrases." in page
    assert "| `prune` | removes what matters least | off |" in page
    assert "distill: {alpha: 0.7}" in page
    assert "3.00%" in page


def test_without_a_pool_of_ours_the_benchmark_takes_one_slot_of_the_default(dag_of):
    dag = dag_of()
    assert {task.pool for task in dag.tasks} == {"default_pool"}
    assert dag.get_task("benchmark").pool_slots == 1
    assert dag.get_task("fuse").partial_kwargs["max_active_tis_per_dag"] == 2


def test_a_pool_whose_variable_is_empty_is_none(dag_of, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPTOPS__POOL", "")
    assert {task.pool for task in dag_of().tasks} == {"default_pool"}


def test_with_a_pool_the_stages_run_there_and_the_benchmark_alone(dag_of, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPTOPS__POOL", "optops_cpu")
    monkeypatch.setenv("AIRFLOW__OPTOPS__POOL_SLOTS", "4")
    dag = dag_of()
    assert {dag.get_task(name).pool for name in ORDER} == {"optops_cpu"}
    assert dag.get_task("benchmark").pool_slots == 4
    assert dag.get_task("train").pool_slots == 1


def test_an_asset_that_airflow_refuses_is_the_recipes_mistake(recipe_file):
    path = recipe_file("schedule: {asset: '   '}\n")
    with pytest.raises(RecipeError, match=rf"{path}: schedule\.asset: Airflow refuses '   ': .* whitespace"):
        recipe_dag(path)


def test_a_broken_recipe_says_file_line_and_remedy(recipe_file):
    path = recipe_file("traim: {}\n")
    with pytest.raises(RecipeError, match=rf"{path}:\d+: unknown key 'traim'; did you mean 'train'\?"):
        recipe_dag(path)
