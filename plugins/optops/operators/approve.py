"""Asks a person to approve a promotion, where the recipe wants one, and tells whether exactly that was approved."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from airflow.sdk.timezone import utcnow

from optops.candidate import canonical_json
from optops.operators.base import RESULT_KEY, frozen_recipe, results_of
from optops.recipe import Recipe
from optops.recipe_file import RecipeError
from optops.stage_spec import StageResult

APPROVE, GATE, REGISTER = "approve", "gate", "register"

ASKED_KEY = "asked"
"""Where the task leaves the digest of what it asks."""


@dataclass(frozen=True)
class Question:
    """What people are asked.

    Attributes:
        subject: Names the version.
        verdict: The gate's, in Markdown.
        approvers: Ids of who may answer; anyone if empty.
    """

    subject: str
    verdict: str
    approvers: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The sha256 of all of it."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()


class ApproveOperator(ApprovalOperator):
    """Waits for a person if this run's recipe requires one; approves at once if not.

    While it waits it takes no worker and no pool slot. Rejecting, or not answering in time, skips the promotion. If the
    gate did not accept there is nothing to approve, and the task is skipped with the verdict.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(subject="Promote this model?", defaults=self.REJECT, **kwargs)

    def execute(self, context: Context) -> Any:
        """Approves, skips, or waits."""
        try:
            recipe = frozen_recipe(context).read()
        except RecipeError as error:
            raise AirflowFailException(str(error)) from None
        judged = _result_of(GATE, context).output
        if not judged["accepted"]:
            raise AirflowSkipException(f"the verdict is {judged['verdict']['verdict']}: nothing to approve")
        if recipe.approval.mode == "automatic":
            self.log.info("Approved: the recipe's approval is automatic and the gate accepted")
            return {
                "chosen_options": [self.APPROVE],
                "params_input": {},
                "responded_at": utcnow(),
                "responded_by_user": None,
            }
        return self._ask(recipe, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Hands on the answer: a rejection too, of which Airflow leaves nothing but a task that was skipped."""
        if "chosen_options" in event:
            context["ti"].xcom_push(RESULT_KEY, {"chosen_options": event["chosen_options"]})
        return super().execute_complete(context, event)

    def _ask(self, recipe: Recipe, context: Context) -> Any:
        question = question_of(recipe, context)
        # Airflow keeps one question per task of a run: after a clear it shows the first, to those whom that asked.
        if self._show(question, context) != question:
            raise AirflowFailException(
                "Airflow goes on showing what this run asked first, which is not this verdict, version and list of "
                "approvers; start a new run: all but the timing comes from the cache"
            )
        context["ti"].xcom_push(ASKED_KEY, question.digest)
        raise TaskAwaitingInput(method_name="execute_complete", timeout=timedelta(hours=recipe.approval.timeout_hours))

    def _show(self, question: Question, context: Context) -> Question:
        """Asks as `HITLOperator` does, which keeps to itself what Airflow shows; to ask twice would drop an answer."""
        from airflow.sdk.api.datamodels._generated import HITLUser
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

        # Known to the process of a running task alone.
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        asked = CreateHITLDetailPayload(
            ti_id=context["ti"].id,
            options=self.options,
            subject=question.subject,
            body=question.verdict,
            defaults=self.defaults,
            params={},
            assigned_users=[HITLUser(id=name, name=name) for name in question.approvers],
        )
        shown = SUPERVISOR_COMMS.send(asked)
        return Question(shown.subject, shown.body or "", tuple(user.id for user in shown.assigned_users or ()))


def question_of(recipe: Recipe, context: Context) -> Question:
    """Returns what people must be asked before what was registered is promoted.

    Raises:
        AirflowFailException: If the gate or `register` handed on nothing.
    """
    version, judged = _result_of(REGISTER, context).output, _result_of(GATE, context).output
    subject = f"Promote version {version['version']} of {version['name']}?"
    return Question(subject, str(judged["verdict"]["markdown"]), recipe.approval.approvers)


def check_approval(recipe: Recipe, context: Context) -> datetime | None:
    """Returns when a person approved this verdict on this version; None if nobody need do so.

    That `approve` succeeded is no proof of it: whoever may edit a run may mark its tasks a success.

    Raises:
        AirflowFailException: If nobody approved it.
    """
    if recipe.approval.mode == "automatic" or not _result_of(REGISTER, context).output:
        return None
    question, answer = question_of(recipe, context), answer_of(context)
    asked = context["ti"].xcom_pull(task_ids=APPROVE, key=ASKED_KEY, map_indexes=-1)
    answered_at, person = answer.get("responded_at"), (answer.get("responded_by_user") or {}).get("id")
    approved = answer.get("chosen_options") == [ApproveOperator.APPROVE]
    if approved and asked is None:
        raise AirflowFailException(
            f"{question.subject} That was approved, but what was asked is not on record, as an earlier optops left it; "
            "start a new run"
        )
    may = not question.approvers or person in question.approvers
    if not (approved and may and asked == question.digest and isinstance(answered_at, datetime)):
        raise AirflowFailException(
            f"{question.subject} Nobody answered that, by this verdict, with {ApproveOperator.APPROVE}; clear the task "
            f"{APPROVE} and have {' or '.join(question.approvers) or 'anyone'} answer what it asks"
        )
    return answered_at


def answer_of(context: Context) -> dict[str, Any]:
    """Returns what `approve` was answered; nothing if it was not."""
    return context["ti"].xcom_pull(task_ids=APPROVE, key=RESULT_KEY, map_indexes=-1) or {}


def _result_of(stage: str, context: Context) -> StageResult:
    results = results_of(stage, context)
    if not results:
        raise AirflowFailException(f"{stage} handed on nothing; clear it, so that it runs again")
    return results[0]
