"""Asks a person to approve a promotion, where the recipe wants one."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.hitl import HITLUser
from airflow.sdk.timezone import utcnow

from optops.operators.base import frozen_recipe, results_of
from optops.recipe import Recipe
from optops.recipe_file import RecipeError


class ApproveOperator(ApprovalOperator):
    """Waits for a person if this run's recipe requires one; approves at once if not.

    While it waits it takes no worker and no pool slot. Rejecting, or not answering in time, skips the promotion. If the
    gate did not accept there is nothing to approve, and the task is skipped with the verdict.

    Args:
        gate: The task whose verdict people are shown.
    """

    def __init__(self, *, gate: str, **kwargs: Any):
        super().__init__(subject="Promote this model?", defaults=self.REJECT, **kwargs)
        self.gate = gate

    def execute(self, context: Context) -> Any:
        """Approves, skips, or waits."""
        try:
            recipe = frozen_recipe(context).read()
        except RecipeError as error:
            raise AirflowFailException(str(error)) from None
        judged = results_of(self.gate, context)
        if not judged:
            raise AirflowFailException(f"{self.gate} handed on no verdict; clear it, so that it runs again")
        output = judged[0].output
        if not output["accepted"]:
            raise AirflowSkipException(f"the verdict is {output['verdict']['verdict']}: nothing to approve")
        if recipe.approval.mode == "automatic":
            self.log.info("Approved: the recipe's approval is automatic and the gate accepted")
            return {
                "chosen_options": [self.APPROVE],
                "params_input": {},
                "responded_at": utcnow(),
                "responded_by_user": None,
            }
        self._ask(recipe, str(output["verdict"]["markdown"]))
        return super().execute(context)

    def _ask(self, recipe: Recipe, verdict: str) -> None:
        self.subject = f"Promote the challenger of {recipe.registry.name}?"
        self.body = verdict
        self.assigned_users = [HITLUser(id=name, name=name) for name in recipe.approval.approvers] or None
        self.response_timeout = timedelta(hours=recipe.approval.timeout_hours)
