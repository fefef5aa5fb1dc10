"""Label checks: row-level expectations over any workload's examples, the defects they find, and Data Docs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from optops.sections import CheckSetting
from optops.spelling import hint

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.data_context import EphemeralDataContext

    from optops.sections import Severity, StandardCheck

_NEEDED_COLUMNS = ("id", "file", "line", "split")
_SHOWN_CHARACTERS = 80


class LabelCheckError(ValueError):
    """Label checks that can not run as asked; the message names what is wrong and what to do."""


class FindDefects(Protocol):
    """What stands behind a check: a function, top level in its module, that names the defective rows."""

    def __call__(self, rows: pd.DataFrame, **parameters: Any) -> pd.Series[str]:
        """Find the defective rows.

        Args:
            rows: All rows of one split; `id` and the columns that the check declares.
            **parameters: What the check declares; must be representable in JSON.

        Returns:
            For each defective row, and no other, the reason in words; indexed like `rows`.
        """


@dataclass(frozen=True)
class LabelCheck:
    """What a check demands.

    Attributes:
        name: Its name in recipes and reports.
        severity: `critical` defects are quarantined and, above the limit, fail the run; a `warning` is only reported.
        limit: Share of a split's rows that may be defective, in [0, 1).
        description: What must hold, a sentence for people; shown in Data Docs.
    """

    name: str
    severity: Severity
    limit: float
    description: str


@dataclass(frozen=True)
class RowCheck:
    """A check and how it is made.

    Attributes:
        label: What it demands.
        function: `module:name` of a `FindDefects` function.
        columns: Columns that the function reads (`id` it gets in any case).
        parameters: Keyword arguments of the function; representable in JSON.
        shown: Columns that make up a defect's value; `columns` when empty.
    """

    label: LabelCheck
    function: str
    columns: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[str, ...] = ()

    @classmethod
    def standard(
        cls,
        checks: Mapping[str, StandardCheck],
        name: str,
        description: str,
        function: Callable[..., pd.Series[str]],
        columns: tuple[str, ...],
        shown: tuple[str, ...] = (),
        **parameters: Any,
    ) -> RowCheck:
        """Returns one of a workload's checks, as severe and as strict as the workload has it.

        Args:
            checks: Those of the workload.
            name: Which of them.
            description: What must hold, a sentence for people.
            function: A `FindDefects` function, at the top level of its module.
            columns: As of the attribute.
            shown: As of the attribute.
            **parameters: As of the attribute.
        """
        label = LabelCheck(name, checks[name].severity, checks[name].limit, description)
        return cls(label, f"{function.__module__}:{function.__name__}", columns, parameters, shown)


@dataclass(frozen=True)
class Defect:
    """One defective row: which check found it, where it stands, what it is (shortened), and why it is defective."""

    check: str
    severity: Severity
    split: str
    id: str
    file: str
    line: int
    value: str
    reason: str


@dataclass(frozen=True)
class CheckOutcome:
    """How one split did in one check: `count` defective rows are a `share` of the split, to be held against `limit`."""

    check: str
    severity: Severity
    limit: float
    split: str
    count: int
    share: float
    within_limit: bool


def run_checks(
    frame: pd.DataFrame,
    checks: Sequence[RowCheck],
    settings: Mapping[str, CheckSetting],
    docs_folder: Path,
    name: str,
) -> tuple[list[CheckOutcome], list[Defect]]:
    """Check every split with Great Expectations and write Data Docs.

    Args:
        frame: One row an example: `id` (unique), `file`, `line`, `split`, and the columns of the checks.
        checks: What to check.
        settings: Changes by check name.
        docs_folder: Gets the Data Docs, a site that opens from disk at `index.html`.
        name: Names the suites (`NAME-SPLIT`) in Data Docs, for example the recipe's name.

    Returns:
        An outcome for each split and check that is not off, and the defects in the same order.

    Raises:
        LabelCheckError: A missing column, an id that is not unique, a setting for an unknown check, or a check that
            breaks down.
    """
    _require_examples(frame)
    active = _apply_settings(checks, settings)
    context = _open_context(docs_folder)
    outcomes: list[CheckOutcome] = []
    defects: list[Defect] = []
    for split, rows in frame.groupby("split", sort=False):
        results = _validate(context, f"{name}-{split}", rows, active)
        for check in active:
            outcome, found = _judge(check, str(split), rows, results[check.label.name])
            outcomes.append(outcome)
            defects += found
    context.build_data_docs()
    return outcomes, defects


def quarantined_ids(defects: Collection[Defect], split: str = "train") -> frozenset[str]:
    """Name the examples of a split that have a critical defect: what a quarantine takes out."""
    return frozenset(defect.id for defect in defects if defect.split == split and defect.severity == "critical")


def _require_examples(frame: pd.DataFrame) -> None:
    missing = [column for column in _NEEDED_COLUMNS if column not in frame]
    if missing:
        raise LabelCheckError(f"the examples lack the column(s) {', '.join(missing)}: add them, see run_checks")
    if frame.empty:
        raise LabelCheckError("there are no examples to check: look at the data the recipe names")
    repeated = frame["id"][frame["id"].duplicated()]
    if not repeated.empty:
        raise LabelCheckError(
            f"the id {repeated.iloc[0]!r} occurs more than once ({len(repeated)} repeated ids): "
            "give every example an id of its own; files of one name need their folder in it"
        )


def _apply_settings(checks: Sequence[RowCheck], settings: Mapping[str, CheckSetting]) -> list[RowCheck]:
    known = [check.label.name for check in checks]
    for unknown in settings.keys() - set(known):
        raise LabelCheckError(f"there is no label check {unknown!r}; {hint(unknown, known)}")
    active: list[RowCheck] = []
    for check in checks:
        label = check.label
        severity, limit = settings.get(label.name, CheckSetting()).rule(label.severity, label.limit)
        if severity != "off":
            active.append(replace(check, label=replace(label, severity=severity, limit=limit)))
    return active


def _open_context(docs_folder: Path) -> EphemeralDataContext:
    """Open a context that keeps everything in memory but Data Docs."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    context.add_data_docs_site(
        site_name="label_checks",
        site_config={
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(docs_folder.resolve()),
            },
        },
    )
    return context


def _validate(
    context: EphemeralDataContext, name: str, rows: pd.DataFrame, checks: Sequence[RowCheck]
) -> dict[str, ExpectationValidationResult]:
    """Hold one split against its suite; results by check."""
    import great_expectations as gx

    from optops.workloads.row_expectation import ExpectRowsFreeOfDefects

    suite = gx.ExpectationSuite(name=name)
    for check in checks:
        suite.add_expectation(
            ExpectRowsFreeOfDefects(
                column_list=["id", *check.columns],
                function=check.function,
                parameters=dict(check.parameters),
                check=check.label.name,
                sentence=check.label.description,
                # Rounded, because 1 - limit in binary can come out just above the share that must be met.
                mostly=round(1 - check.label.limit, 12),
                severity=check.label.severity,
            )
        )
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    definition = gx.ValidationDefinition(
        name=name,
        data=asset.add_batch_definition_whole_dataframe(name),
        suite=context.suites.add(suite),
    )
    checkpoint = gx.Checkpoint(
        name=name,
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
    )
    run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": rows})
    (result,) = run.run_results.values()
    return {one.expectation_config.kwargs["check"]: one for one in result.results}


def _judge(
    check: RowCheck, split: str, rows: pd.DataFrame, result: ExpectationValidationResult
) -> tuple[CheckOutcome, list[Defect]]:
    _require_finished(check, result)
    ids = [row["id"] for row in result.result["unexpected_index_list"]]
    label = check.label
    outcome = CheckOutcome(
        label.name, label.severity, label.limit, split, len(ids), len(ids) / len(rows), bool(result.success)
    )
    return outcome, _explain(check, split, rows, ids)


def _require_finished(check: RowCheck, result: ExpectationValidationResult) -> None:
    """Raise when a check broke down, which Great Expectations reports like a failed expectation."""
    exceptions = [result.exception_info, *result.exception_info.values()]
    for exception in exceptions:
        if isinstance(exception, Mapping) and exception.get("raised_exception"):
            raise LabelCheckError(
                f"label check {check.label.name} ({check.function}) broke down: {exception['exception_message']}; "
                "correct the function, or turn the check off"
            )


def _explain(check: RowCheck, split: str, rows: pd.DataFrame, ids: Sequence[str]) -> list[Defect]:
    """Say of each row that failed a check where it stands and why it failed."""
    if not ids:
        return []
    from optops.workloads.row_expectation import load_function

    reasons = load_function(check.function)(rows[["id", *check.columns]], **check.parameters)
    found = rows.loc[reasons.index].assign(_reason=reasons).set_index("id").loc[list(ids)]
    shown = [found[column].map(_shorten) for column in check.shown or check.columns]
    return [
        Defect(
            check.label.name, check.label.severity, split, str(row), str(file), int(line), " | ".join(values), reason
        )
        for row, file, line, reason, *values in zip(
            found.index, found["file"], found["line"], found["_reason"], *shown, strict=True
        )
    ]


def _shorten(value: object) -> str:
    # One line: what an example holds must not begin a line of the log. Its spaces may be the defect.
    text = " ".join(str(value).splitlines())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
