"""Buttons on a task's page: its MLflow run, its Data Docs, the model version it made."""

from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.types import TaskInstanceKey


class StageLink(BaseOperatorLink):
    """A link that a stage announces while it runs or hands on with its result.

    Airflow asks for it when the task ends; the operator also stores it the moment it is announced.
    """

    title: ClassVar[str]
    announced_as: ClassVar[str]

    @property
    def name(self) -> str:
        """The button's label."""
        return self.title

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Returns the URL, or nothing if the stage named none."""
        del ti_key
        links: dict[str, str] = getattr(operator, "links", {})
        return links.get(self.announced_as, "")


class MlflowRunLink(StageLink):
    """To the stage's run in MLflow."""

    title = "MLflow run"
    announced_as = "mlflow_run"


class DataDocsLink(StageLink):
    """To what Great Expectations found in the labels."""

    title = "Data Docs"
    announced_as = "data_docs"


class ModelVersionLink(StageLink):
    """To the version in MLflow's model registry."""

    title = "Model version"
    announced_as = "model_version"


LINKS: tuple[StageLink, ...] = (MlflowRunLink(), DataDocsLink(), ModelVersionLink())


def xcom_key(announced_as: str, operator: Any) -> str | None:
    """Returns where an operator's button looks for its URL; None if the operator has no such button."""
    for link in operator.operator_extra_links:
        if isinstance(link, StageLink) and link.announced_as == announced_as:
            return str(link.xcom_key)
    return None
