"""One operator per stage; what a stage is, `pipeline.py` knows, and what it does, `optops.stages`."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any
from uuid import uuid4

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from optops.operators.approve import APPROVE, GATE, REGISTER, ApproveOperator, answer_of, check_approval
from optops.operators.base import OPENING, RESULT_KEY, StageOperator, freeze_recipe, kept_with_run, results_of
from optops.operators.links import DataDocsLink, MlflowRunLink, ModelVersionLink
from optops.pipeline import STAGES
from optops.recipe import Recipe
from optops.stage_spec import ANSWERED_AT, STOPPED, Json, RunReference, StageResult

IDENTITY_KEY = "identity"
PROMOTE = "promote"

STOPPED_BEFORE = {
    GATE: "the gate judged",
    REGISTER: "what the gate accepted was registered",
    APPROVE: "what the gate accepted was approved",
    PROMOTE: "what the gate accepted was promoted",
}
"""What a run did not come to that was stopped when it came to a task."""


class OpenRunOperator(StageOperator):
    """Opens the MLflow run and freezes the recipe that every task of this run reads."""

    stage = "open_run"

    def run_recipe(self, context: Context) -> Recipe:
        """Freezes the recipe and returns it."""
        frozen = freeze_recipe(self.recipe, context)
        for key, value in frozen.overrides.items():
            self.log.info("this run changes the recipe: %s is %r", key, value)
        return frozen.read()

    def reference(self, recipe: Recipe, context: Context) -> RunReference:
        """Returns the MLflow run to open, with what tells this DAG run from every other, of another Airflow too."""
        identity = str(kept_with_run(IDENTITY_KEY, context, lambda: uuid4().hex))
        return RunReference("", recipe.experiment, "", context["run_id"], identity)


class CheckLabelsOperator(StageOperator):
    """Checks every example, writes the manifests."""

    stage = "check_labels"
    operator_extra_links = (MlflowRunLink(), DataDocsLink())


class TrainOperator(StageOperator):
    """Trains or imports the baseline."""

    stage = "train"


class DistillOperator(StageOperator):
    """Teaches a faster student."""

    stage = "distill"


class PruneOperator(StageOperator):
    """Removes what matters least."""

    stage = "prune"


class PlanOperator(StageOperator):
    """Multiplies models by precisions and runtimes within the budget."""

    stage = "plan"


class ListItemsOperator(BaseOperator):
    """Hands on one of the lists that a stage made, for a mapped stage to expand over.

    Airflow expands over what a task returns, one list per task, and `plan` makes several.

    Args:
        source: The stage that made the list.
        over: Where in its output.
    """

    def __init__(self, *, source: str, over: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.source = source
        self.over = over

    def execute(self, context: Context) -> list[Json]:
        """Returns the list."""
        items: list[Json] = results_of(self.source, context)[0].output[self.over]
        for item in items:
            self.log.info("%s", item["label"])
        return items


class QuantizeOperator(StageOperator):
    """Writes the precision plan of one model."""

    stage = "quantize"


class FuseOperator(StageOperator):
    """Lowers one model to one runtime, checks parity."""

    stage = "fuse"


class BenchmarkOperator(StageOperator):
    """Times all executables against the baseline, alone on its host."""

    stage = "benchmark"


class NominateOperator(StageOperator):
    """Chooses what the gate will judge."""

    stage = "nominate"


class GateOperator(StageOperator):
    """Judges the nominee on the test split."""

    stage = "gate"


class RegisterOperator(StageOperator):
    """Makes the model version and sets the alias `challenger`."""

    stage = "register"
    operator_extra_links = (MlflowRunLink(), ModelVersionLink())


class PromoteOperator(StageOperator):
    """Moves the alias `champion`, and tells whoever waits for the model (an asset event)."""

    stage = "promote"
    operator_extra_links = (MlflowRunLink(), ModelVersionLink())

    def state(self, context: Context) -> dict[str, str]:
        """Returns when a person approved, if one had to.

        Raises:
            AirflowFailException: If the recipe requires a person's approval, and nobody approved this.
        """
        answered_at = check_approval(self.run_recipe(context), context)
        if answered_at is None:
            return {}
        return {ANSWERED_AT: answered_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def hand_on(self, result: StageResult, context: Context) -> Json:
        """Puts version, run and metrics into the asset event."""
        data = super().hand_on(result, context)
        metrics = dict(result.candidates[0].metrics) if result.candidates else {}
        opened = results_of(OPENING, context)[0]
        for asset in self.outlets:
            extra = {**data["output"], "run": opened.output["run_id"], "metrics": metrics}
            context["outlet_events"][asset].extra = extra
        return data


class CloseRunOperator(StageOperator):
    """Ends the MLflow run, whatever happened, and fails if anything failed: a DAG run is as green as its last task."""

    stage = "close_run"

    def execute(self, context: Context) -> Json:
        """Closes the run.

        Raises:
            AirflowFailException: If a task of this run failed, which it names, or a person ended it before its end.
        """
        if not results_of(OPENING, context):
            raise AirflowFailException(f"{OPENING} did not open a run, so there is none to close; see its log")
        data = super().execute(context)
        wrong = summary(self.state(context))
        if wrong:
            context["ti"].xcom_push(RESULT_KEY, data)
            raise AirflowFailException(wrong)
        return data

    def results(self, context: Context) -> dict[str, tuple[StageResult, ...]]:
        """Returns what the stages of this attempt handed on: of a run that was cleared, Airflow keeps older results."""
        states = self.state(context)
        return {
            name: tuple(result for result in results if _was_handed_on(state_of(name, states), result))
            for name, results in super().results(context).items()
        }

    def state(self, context: Context) -> dict[str, str]:
        """Returns task to state; the third item of `fuse` is `fuse[2]`, and what a person stopped is `STOPPED`."""
        ti = context["ti"]
        of_airflow = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        states = {
            item_name(task): str(getattr(state, "value", state) or "none")
            for task, state in sorted(of_airflow.items())
            if task != ti.task_id
        }
        stopped = stopped_task(states, context)
        return states if stopped is None else {**states, stopped: STOPPED}


def state_of(stage: str, states: Mapping[str, str]) -> str:
    """Returns how a stage ended; a mapped one that was expanded succeeded if one of its items did."""
    items = [state for task, state in states.items() if task.startswith(f"{stage}[")]
    return states.get(stage, "success" if "success" in items else "none")


def _was_handed_on(state: str, result: StageResult) -> bool:
    # A stage that is off succeeds in handing on what it was handed, and is skipped.
    return state == "success" or (state == "skipped" and bool(result.skipped))


def stopped_task(states: Mapping[str, str], context: Context) -> str | None:
    """Returns the task, from the gate on, that a person kept from running by marking the run as failed or a success.

    Airflow skips what had not run then, and goes by the last task for the state of the run.
    """
    if states.get(GATE) == "skipped":
        return GATE
    accepted = states.get(GATE) == "success" and any(judged.output["accepted"] for judged in results_of(GATE, context))
    skipped = [task for task in (REGISTER, APPROVE, PROMOTE) if states.get(task) == "skipped"]
    if not accepted or not skipped:
        return None
    # Of what was accepted only the promotion is skipped for a reason: a person's no, or its own.
    rejected = answer_of(context).get("chosen_options") == [ApproveOperator.REJECT]
    with_reason = rejected or any(result.skipped for result in results_of(PROMOTE, context))
    return None if skipped == [PROMOTE] and with_reason else skipped[0]


def item_name(task: str) -> str:
    """Returns `fuse[2]` for `fuse_2`, Airflow's name for the third item of a mapped task."""
    found = re.fullmatch(r"(.+)_(\d+)", task)
    mapped = found is not None and found[1] in STAGES and STAGES[found[1]].over is not None
    return f"{found[1]}[{found[2]}]" if found and mapped else task


def summary(states: Mapping[str, str]) -> str:
    """Returns what went wrong in a run, in one line; nothing if nothing did."""

    def listed(names: Iterable[str]) -> str:
        return ", ".join(names)

    failed = [task for task, state in states.items() if state == "failed"]
    not_run = [task for task, state in states.items() if state == "upstream_failed"]
    if failed or not_run:
        return f"failed: {listed(failed)}" + (f"; so these did not run: {listed(not_run)}" if not_run else "")
    stopped = [STOPPED_BEFORE[task] for task, state in states.items() if state == STOPPED]
    return f"the run was marked as failed or a success before {stopped[0]}" if stopped else ""


OPERATORS: Mapping[str, type[StageOperator]] = {
    operator.stage: operator
    for operator in (
        OpenRunOperator,
        CheckLabelsOperator,
        TrainOperator,
        DistillOperator,
        PruneOperator,
        PlanOperator,
        QuantizeOperator,
        FuseOperator,
        BenchmarkOperator,
        NominateOperator,
        GateOperator,
        RegisterOperator,
        PromoteOperator,
        CloseRunOperator,
    )
}
