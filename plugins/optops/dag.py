"""Builds the Airflow DAG of a recipe: one task per stage of `pipeline.FLOW`, and one that asks for approval.

The shape does not depend on the run's parameters. A stage that is off is skipped and passes its input on, so what
follows runs all the same (`none_failed`). A failed item of a mapped stage stops nothing but what stands on it; the last
task closes the run whatever happened, and fails if anything failed.

Airflow's configuration may name a pool for the stages, section `[optops]` (`AIRFLOW__OPTOPS__POOL`):

- `pool`: the pool of all stages; it must exist, or Airflow never starts them. `default_pool` if it is empty; then at
  most two items of a mapped stage run at once.
- `pool_slots`: how many slots the benchmark takes, all of the pool's for choice, so that nothing is started beside it.
  1 if not given. Whatever the pool, stages on one host keep out of a timing's way by a lock.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, TriggerRule, conf
from airflow.sdk.definitions.asset import Model

from optops.operators.approve import APPROVE, REGISTER, ApproveOperator
from optops.operators.parameters import SWITCHES, form
from optops.operators.stages import OPERATORS, ListItemsOperator
from optops.pipeline import FLOW, ORDER, STAGES, Stage
from optops.recipe import Recipe
from optops.recipe_file import RecipeError, parse_recipe, read_text

PLAN, PROMOTE, CLOSE = "plan", "promote", ORDER[-1]

DEFAULT_POOL = "default_pool"
ITEMS_AT_ONCE = 2


def recipe_dag(path: str | Path, *, command: Sequence[str] | None = None) -> DAG:
    """Returns the DAG of a recipe; assign it to a name in a file of the DAGs folder.

    The file must hold the word `airflow`, in a docstring for example: Airflow passes over those that do not.

    Args:
        path: Of the recipe's YAML.
        command: What runs stages, if not this Python; see `SubprocessRunner`.

    Raises:
        RecipeError: If the recipe can not be used; Airflow shows the message as that file's import error.
    """
    path = Path(path).absolute()
    text = read_text(path)
    recipe = parse_recipe(text, path)
    with DAG(
        recipe.name,
        description=recipe.description.partition("\n")[0] or None,
        doc_md=documentation(recipe, text),
        schedule=_schedule(recipe, path),
        start_date=datetime(2025, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=2,
        params=form(recipe),
        tags={"optops", recipe.workload},
        default_args={"owner": "optops", "retries": 2, "retry_delay": timedelta(seconds=15)},
    ) as dag:
        tasks: dict[str, Any] = {}
        for stage in FLOW:
            arguments = _arguments(stage, recipe, {"recipe": str(path), "command": command})
            tasks[stage.name] = _task(stage, arguments, tasks)
            for parent in parents(stage):
                tasks[parent] >> tasks[stage.name]
            if stage.name == REGISTER:
                tasks[APPROVE] = ApproveOperator(task_id=APPROVE, trigger_rule=TriggerRule.NONE_FAILED)
                tasks[REGISTER] >> tasks[APPROVE]
        # Whoever marks a run as failed or a success skips what has not run yet, but for teardowns; and the MLflow run
        # must end.
        tasks[CLOSE].as_teardown(on_failure_fail_dagrun=True)
    return dag


def parents(stage: Stage) -> list[str]:
    """Returns the tasks that a stage's task follows directly: what it reads, less what comes before that anyway."""
    if stage.name == PROMOTE:
        return [APPROVE]
    direct = {*stage.reads, *([PLAN] if stage.over else [])}
    implied = {name for parent in direct for name in _ancestors(STAGES[parent])}
    # The list that a mapped stage expands over hangs on `plan`, so the stage itself need not.
    return [name for name in ORDER if name in direct - implied and not (stage.over and name == PLAN)]


def trigger_rule(stage: Stage) -> TriggerRule:
    """Returns when a stage's task runs, given how what it follows has ended."""
    if stage.name == CLOSE:
        return TriggerRule.ALL_DONE_SETUP_SUCCESS
    after_mapped = any(name in STAGES and STAGES[name].over for name in parents(stage))
    if not after_mapped:
        return TriggerRule.NONE_FAILED
    # An item whose own input is missing fails by itself, so that the others go on; what joins them needs one at least.
    return TriggerRule.ALL_DONE if stage.over else TriggerRule.ALL_DONE_MIN_ONE_SUCCESS


def documentation(recipe: Recipe, text: str) -> str:
    """Returns the DAG's page in Markdown: what the recipe is for, what would run, the recipe itself."""
    rows = [f"| `{stage.name}` | {stage.summary} | {_whether(stage, recipe)} |" for stage in FLOW]
    gate, target = recipe.gate, recipe.target
    allowed = f"{gate.tolerance:.2%}" if gate.tolerance_kind == "relative" else f"{gate.tolerance:g}"
    threads = "thread" if target.threads == 1 else "threads"
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            recipe.description,
            "",
            f"Workload `{recipe.workload}`, target {target.device} with {target.threads} {threads}. A model is "
            f"promoted as `{recipe.registry.name}` if it is proved to lose at most {allowed} of the baseline's quality "
            f"with a speed-up of at least {gate.minimum_speedup:g}.",
            "",
            "| task | what it does | in this recipe |",
            "|---|---|---|",
            *rows,
            "",
            "```yaml",
            text.rstrip(),
            "```",
        ]
    )


def _ancestors(stage: Stage) -> set[str]:
    direct = {*stage.reads, *([PLAN] if stage.over else [])}
    return direct | {name for parent in direct for name in _ancestors(STAGES[parent])}


def _task(stage: Stage, arguments: Mapping[str, Any], tasks: Mapping[str, Any]) -> Any:
    operator = OPERATORS[stage.name]
    if stage.over is None:
        return operator(**arguments)
    items = ListItemsOperator(task_id=f"{stage.name}_items", source=PLAN, over=stage.over)
    tasks[PLAN] >> items
    template = "{{ task.item['label'] }}"
    return operator.partial(**arguments, map_index_template=template).expand(item=items.output)


def _arguments(stage: Stage, recipe: Recipe, common: Mapping[str, Any]) -> dict[str, Any]:
    pool = conf.get("optops", "pool", fallback="") or DEFAULT_POOL
    arguments = {**common, "task_id": stage.name, "trigger_rule": trigger_rule(stage), "pool": pool}
    arguments["doc_md"] = f"{stage.summary[0].upper()}{stage.summary[1:]}."
    if stage.exclusive and pool != DEFAULT_POOL:
        slots = conf.getint("optops", "pool_slots", fallback=1)
        arguments |= {"pool_slots": slots, "priority_weight": 100, "weight_rule": "absolute"}
    if stage.over and pool == DEFAULT_POOL:
        arguments["max_active_tis_per_dag"] = ITEMS_AT_ONCE
    if stage.name == PROMOTE:
        # Without a name of its own, so that `Asset(URI)` in another DAG is the same asset: Airflow compares names too.
        arguments["outlets"] = [Model(f"mlflow://registered-models/{recipe.registry.name}")]
    return arguments


def _schedule(recipe: Recipe, path: Path) -> Any:
    schedule = recipe.schedule
    if schedule is None:
        return None
    timetable = CronTriggerTimetable(schedule.cron, timezone="UTC") if schedule.cron else None
    try:
        assets = [Asset(schedule.asset)] if schedule.asset else []
    except ValueError as error:
        raise RecipeError(f"{path}: schedule.asset: Airflow refuses {schedule.asset!r}: {error}") from None
    if timetable and assets:
        return AssetOrTimeSchedule(timetable=timetable, assets=assets)
    return timetable or assets or None


def _whether(stage: Stage, recipe: Recipe) -> str:
    if stage.name not in SWITCHES:
        return ""
    return "off" if recipe.is_off(stage.name) else "on"
