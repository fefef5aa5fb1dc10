"""The operator that all stages share: it puts the spec together, has a runner run it, and hands on what comes back."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from optops.operators.frozen_recipe import FrozenRecipe
from optops.operators.links import MlflowRunLink, xcom_key
from optops.operators.parameters import changes
from optops.pipeline import ORDER, STAGES, make_spec
from optops.recipe import Recipe
from optops.recipe_file import RecipeError, read_recipe
from optops.runners.base import Runner, StageFailed
from optops.runners.subprocess import STAGE_COMMAND, SubprocessRunner
from optops.stage_spec import Json, RunReference, StageResult

PLAN = "plan"
OPENING = ORDER[0]
"""The stage that opens a run: it has the run's MLflow id, and its task the run's recipe."""

CHANGES_KEY = "changes"
RECIPE_KEY = "recipe"
RESULT_KEY = "return_value"


class StageOperator(BaseOperator):
    """Runs one stage in a process of its own and pushes its result, a `StageResult`, as XCom.

    The stage's lines are the task's log, while it runs. A stage that is off is skipped, with its result pushed all the
    same: the stages downstream go on with what it passed on. A stage that failed fails the task with its own message;
    only an unreachable server, death by signal and a lost worker are retried.

    Args:
        recipe: Path of the recipe.
        command: What runs stages, if not this Python; see `SubprocessRunner`.
        item: The item of a mapped stage, as `plan` wrote it.
    """

    stage: ClassVar[str]
    operator_extra_links: Sequence[BaseOperatorLink] = (MlflowRunLink(),)
    template_fields = ("item",)

    def __init__(
        self,
        *,
        recipe: str,
        command: Sequence[str] | None = None,
        item: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.recipe = recipe
        self.command = command
        self.item = item
        self.links: dict[str, str] = {}
        self.runner: Runner | None = None

    def execute(self, context: Context) -> Json:
        """Runs the stage; returns its result as plain data.

        Raises:
            AirflowSkipException: If the stage is off or had a reason to do nothing.
            AirflowFailException: If it failed and no retry helps.
            AirflowException: If it failed and a retry may help.
        """
        try:
            recipe = self.run_recipe(context)
            return self.hand_on(self.run_stage(recipe, context), context)
        except StageFailed as failure:
            exception = AirflowException if failure.retry else AirflowFailException
            raise exception(failure.message) from None
        except RecipeError as error:
            raise AirflowFailException(str(error)) from None

    def on_kill(self) -> None:
        """Ends the stage and everything that it started."""
        if self.runner is not None:
            self.runner.stop()

    def run_recipe(self, context: Context) -> Recipe:
        """Returns the recipe of this run.

        Raises:
            RecipeError: If it can not be used.
        """
        return frozen_recipe(context).read()

    def run_stage(self, recipe: Recipe, context: Context) -> StageResult:
        """Runs the stage.

        Raises:
            StageFailed: If it did not deliver.
        """
        results = self.results(context)
        item = None if self.item is None else dict(self.item)
        spec = make_spec(self.stage, recipe, self.reference(recipe, context), results, item, self.state(context))
        self.runner = SubprocessRunner(STAGE_COMMAND if self.command is None else self.command)
        return self.runner.run(
            spec, lambda line: self.log.info("%s", line), lambda name, url: self.show_link(name, url, context)
        )

    def reference(self, recipe: Recipe, context: Context) -> RunReference:
        """Returns the MLflow run that this DAG run is.

        Raises:
            AirflowFailException: If none was opened.
        """
        opened = results_of(OPENING, context)
        if not opened:
            raise AirflowFailException(f"the task {OPENING} opened no MLflow run; clear it, so that it runs again")
        return RunReference("", recipe.experiment, str(opened[0].output["run_id"]), context["run_id"])

    def results(self, context: Context) -> dict[str, tuple[StageResult, ...]]:
        """Returns what the stages that this one reads handed on."""
        return {name: results_of(name, context) for name in STAGES[self.stage].reads}

    def state(self, context: Context) -> dict[str, str]:
        """Returns how the run went so far, for a stage that wants to know."""
        del context
        return {}

    def show_link(self, name: str, url: str, context: Context) -> None:
        """Puts a link on its button, if this operator has it and a browser can open it; else into the log."""
        key = xcom_key(name, self)
        if key and url.startswith(("http://", "https://")):
            self.links[name] = url
            context["ti"].xcom_push(key, url)
        else:
            self.log.info("%s: %s", name.replace("_", " "), url)

    def hand_on(self, result: StageResult, context: Context) -> Json:
        """Returns the result as plain data, after showing its links; skips the task if the stage did nothing."""
        for name, url in result.links.items():
            if self.links.get(name) != url:
                self.show_link(name, url, context)
        for name, reason in result.dropped.items():
            self.log.info("dropped %s: %s", name, reason)
        data: Json = json.loads(json.dumps(result.to_json()))
        if result.skipped and self.item is None:
            context["ti"].xcom_push(RESULT_KEY, data)
            raise AirflowSkipException(result.skipped)
        return data


def frozen_recipe(context: Context) -> FrozenRecipe:
    """Returns the recipe that the run opened with.

    Raises:
        RecipeError: If the run never opened.
    """
    data = context["ti"].xcom_pull(task_ids=OPENING, key=RECIPE_KEY, map_indexes=-1)
    if data is None:
        raise RecipeError(f"the task {OPENING} left no recipe; clear it, so that it runs again")
    return FrozenRecipe(**data)


def freeze_recipe(path: str, context: Context) -> FrozenRecipe:
    """Freezes the recipe with what the run wants changed in it, for every task of the run.

    The form gives all its parameters, changed or not. So what this run wants is known only beside the recipe that it
    was started with: where it is cleared after an edit, a value that was left alone is the edited recipe's.

    Raises:
        RecipeError: If the recipe, or what the parameters make of it, can not be used.
    """
    wanted = kept_with_run(CHANGES_KEY, context, lambda: changes(read_recipe(Path(path)), context["params"]))
    frozen = FrozenRecipe.freeze(Path(path), wanted)
    context["ti"].xcom_push(RECIPE_KEY, asdict(frozen))
    return frozen


def kept_with_run(key: str, context: Context, make: Callable[[], Any]) -> Any:
    """Returns what a task found out when its run first came to it; after a clear it is the same.

    Args:
        key: Of what is kept.
        context: Of the task.
        make: Gives it, as plain data, at first.
    """
    # Airflow keeps it with the DAG run, whatever is cleared, unless its `[state_store] clear_on_success` is on.
    store = context["task_state_store"]
    kept = store.get(key)
    if kept is None:
        kept = make()
        store.set(key, kept, retention=NEVER_EXPIRE)
    return kept


def results_of(stage: str, context: Context) -> tuple[StageResult, ...]:
    """Returns what a stage upstream handed on: several results if it is mapped, none if it did not deliver."""
    over = STAGES[stage].over
    if over is None:
        pulled = context["ti"].xcom_pull(task_ids=[stage], key=RESULT_KEY)
    else:
        # Of a run that was cleared and planned fewer items, Airflow keeps what the others handed on before.
        planned = results_of(PLAN, context)
        places = range(len(planned[0].output[over]) if planned else 0)
        pulled = context["ti"].xcom_pull(task_ids=[stage], key=RESULT_KEY, map_indexes=places)
    return tuple(StageResult.from_json(data) for data in pulled or () if data is not None)
