"""`optops evaluate`: how all models of a run do on other data, long after the run."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from optops.cli.console import CommandError, explained, show_json, table_console
from optops.cli.settings import read_settings
from optops.figures import decimals_beside

if TYPE_CHECKING:
    from optops.evaluation import Report
    from optops.recipe import Recipe
    from optops.tracking import Tracking


@explained
def evaluate(
    run: Annotated[
        str,
        typer.Argument(help="MLflow run id, the beginning of one, a label, or a recipe's name.", show_default=False),
    ],
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Other data or metric, e.g. data.test.source=/data/2017.en."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON; progress goes to stderr.")] = False,
) -> None:
    """Measure the baseline and every executable of a run on its test split, or on data of your own.

    This is for reports, after all choices: who chooses a model by what it does on the test split has none left to
    prove anything with.
    """
    from rich.console import Console

    from optops.cli.records import find_run, stage_results
    from optops.errors import is_expected
    from optops.evaluation import evaluate_run

    if split not in ("test", "validation"):
        raise CommandError(f"--split {split!r}: choose `test` or `validation`")
    chosen: Literal["test", "validation"] = "test" if split == "test" else "validation"
    from optops.tracking import Tracking

    tracking, progress = Tracking(), Console(stderr=True, highlight=False)
    parent = find_run(tracking, run)
    recipe = recipe_of(tracking, parent.info.run_id, read_settings(settings or ()))
    results = stage_results(tracking, parent)
    try:
        report = evaluate_run(tracking, recipe, results, chosen, lambda line: progress.print(line, markup=False))
    except ValueError as error:
        # What a reader says of data that it can not use is for people.
        if not is_expected(error):
            raise
        raise CommandError(str(error)) from error
    if as_json:
        show_json({"run_id": parent.info.run_id, "recipe": recipe.name, **asdict(report)})
    else:
        _show(report)


def recipe_of(tracking: "Tracking", run_id: str, changes: Mapping[str, Any]) -> "Recipe":
    """Returns the recipe that a parent run keeps, with changes by dotted key."""
    import tempfile

    from optops.recipe_file import parse_recipe

    with tempfile.TemporaryDirectory() as folder:
        path = Path(tracking.client.download_artifacts(run_id, "recipe.yaml", folder))
        text = path.read_text(encoding="utf-8")
    return parse_recipe(text, Path("recipe.yaml"), changes)


def _show(report: "Report") -> None:
    from rich.markup import escape
    from rich.table import Table

    console = table_console()
    console.print(f"{report.examples} examples, {report.split}; {report.signature}", markup=False, soft_wrap=True)
    if report.unlike:
        console.print(f"These are {report.unlike}.", markup=False, style="bold", soft_wrap=True)
    table = Table("model", escape(report.metric), "95 % interval", "against the baseline", "95 % interval", box=None)
    decimals = decimals_beside(report.scores[0].value)
    for score in report.scores:
        interval = f"[{score.low:.{decimals}f}, {score.high:.{decimals}f}]"
        against = ("", "")
        if score.name != report.scores[0].name:
            change, low, high = (
                f"{value:+.{decimals}f}" for value in (score.change, score.change_low, score.change_high)
            )
            against = (change, f"[{low}, {high}]")
        table.add_row(score.name, f"{score.value:.{decimals}f}", interval, *against)
    console.print(table)
