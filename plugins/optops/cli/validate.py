"""`optops validate`: whether a recipe can run, and what would run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optops.cli.console import FAILED, explained, show_json

if TYPE_CHECKING:
    from rich.console import Console

    from optops.cli.forecast import Forecast


@explained
def validate(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Check a recipe: its keys, its data, which stages would run, what its test set can prove.

    Exit status 1 if there is a problem that keeps it from running. Warnings do not change the status.
    """
    from rich.console import Console

    from optops.cli.forecast import forecast

    found = forecast(recipe)
    if as_json:
        show_json(found.to_json())
    else:
        _show(Console(highlight=False), found, recipe)
    if found.problems:
        raise typer.Exit(FAILED)


def _show(console: "Console", found: "Forecast", recipe: Path) -> None:
    for problem in found.problems:
        console.print(f"problem: {problem}", markup=False, style="red", soft_wrap=True)
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, style="yellow", soft_wrap=True)
    width = max((len(stage.name) for stage in found.stages), default=0)
    for stage in found.stages:
        console.print(f"{stage.name:<{width}}  {stage.state:<6}  {stage.text}".rstrip(), markup=False, soft_wrap=True)
    if not found.problems:
        console.print(f"{recipe}: can run", markup=False, style="green", soft_wrap=True)
