"""The Great Expectations side of a row check: one expectation that any workload's function can stand behind.

Importing this module imports Great Expectations, which takes seconds: import it where it is used.
"""

from __future__ import annotations

import html
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import (
    MulticolumnMapMetricProvider,
    multicolumn_condition_partial,
)
from great_expectations.render import (
    CollapseContent,
    LegacyDiagnosticRendererType,
    LegacyRendererType,
    RenderedStringTemplateContent,
    RenderedTableContent,
)
from great_expectations.render.renderer.renderer import renderer

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    from optops.workloads.label_checks import FindDefects

_SAMPLE_ROWS = 20
_METRIC = "multicolumn_values.free_of_defects"


def load_function(path: str) -> FindDefects:
    """Import the function that `module:name` names; a suite keeps the name, so that it can be stored and rerun."""
    module, _, name = path.partition(":")
    return cast("FindDefects", getattr(import_module(module), name))


class RowsFreeOfDefects(MulticolumnMapMetricProvider):
    """Metric: which rows a function names as defective."""

    condition_metric_name = _METRIC
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
    condition_value_keys = ("function", "parameters")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805 - the decorator makes it a class method
        column_list: pd.DataFrame,
        function: str,
        parameters: dict[str, Any],
        **kwargs: Any,
    ) -> pd.Series[bool]:
        reasons = load_function(function)(column_list, **parameters)
        return pd.Series(~column_list.index.isin(reasons.index), index=column_list.index)


class ExpectRowsFreeOfDefects(MulticolumnMapExpectation):
    """Expect a function to name no row as defective.

    Args:
        column_list: `id` and the columns that the function reads.
        function: `module:name` of the function, see `optops.workloads.label_checks.FindDefects`.
        parameters: Its keyword arguments.
        check: The check's name.
        sentence: What must hold, for people.
    """

    function: str
    parameters: dict[str, Any]
    check: str
    sentence: str
    # A row with a missing value is a row to judge, not one to leave out.
    ignore_row_if: Literal["all_values_are_missing", "any_value_is_missing", "never"] = "never"

    map_metric: ClassVar[str | None] = _METRIC
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "function", "parameters")
    args_keys: ClassVar[tuple[str, ...]] = ("column_list", "function", "parameters", "check", "sentence")

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls,
        configuration: ExpectationConfiguration | None = None,
        result: ExpectationValidationResult | None = None,
        runtime_configuration: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[RenderedStringTemplateContent]:
        arguments = (configuration or result.expectation_config).kwargs  # type: ignore[union-attr]
        mostly = float(arguments.get("mostly", 1))
        share = "" if mostly >= 1 else " At least $percent % of the rows must comply."
        template = {
            "template": "$check: $sentence" + share,
            "params": {
                "check": arguments["check"],
                "sentence": arguments["sentence"],
                "percent": f"{100 * mostly:.6g}",
            },
            "styling": {"params": {"check": {"classes": ["badge", "badge-secondary"]}}},
        }
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=template)]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)
    def _diagnostic_observed_value_renderer(
        cls,
        configuration: ExpectationConfiguration | None = None,
        result: ExpectationValidationResult | None = None,
        runtime_configuration: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> str:
        counts = result.result if result is not None else {}
        if not counts:
            return "not judged"
        return f"{counts['unexpected_count']} of {counts['element_count']} rows ({counts['unexpected_percent']:.3g} %)"

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_TABLE)
    def _diagnostic_unexpected_table_renderer(
        cls,
        configuration: ExpectationConfiguration | None = None,
        result: ExpectationValidationResult | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> list[RenderedTableContent | CollapseContent] | None:
        # Great Expectations writes cells into the page as they are, and these come from anywhere.
        rows = (result.result if result is not None else {}).get("partial_unexpected_list")
        if not rows:
            return None
        columns = list(rows[0])
        table = [[html.escape(str(row[column])) for column in columns] for row in rows[:_SAMPLE_ROWS]]
        return [
            RenderedTableContent(
                content_block_type="table",
                table=table,
                header_row=columns,
                styling={"body": {"classes": ["table-bordered", "table-sm", "mt-3"]}},
            )
        ]
