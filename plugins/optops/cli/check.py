"""`optops check`: the label checks alone, for whoever mends data."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optops.cli.console import CommandError, explained, table_console
from optops.cli.settings import read_settings

if TYPE_CHECKING:
    from rich.console import Console

    from optops.workloads.label_checks import Defect

SHOWN_DEFECTS = 20
"""Of each check and split."""


@explained
def check(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. check_labels.quarantine=true."),
    ] = None,
) -> None:
    """Check every example as a run's first stage does, and show what is wrong with which; nothing is trained.

    Exit status 1 if a run would stop here: a critical check is over its limit, or the data can not be read.
    """
    from optops.errors import is_expected
    from optops.home import subfolder
    from optops.measurement.host import host_lock
    from optops.recipe_file import read_recipe
    from optops.stages.check_labels import check_splits, refuse_or_quarantine, write_defects
    from optops.workloads.base import workload_of

    read = read_recipe(recipe, read_settings(settings or ()))
    workload = workload_of(read)
    console = table_console()

    def log(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    folder = subfolder("checks", read.name)
    shutil.rmtree(folder)
    try:
        with host_lock(exclusive=False, on_wait=lambda seconds: log(f"waiting for the host, {seconds:.0f} s so far")):
            splits, report = check_splits(read, workload, folder / "data_docs", log)
    except ValueError as error:
        # What a reader says of data that it can not use is for people.
        if not is_expected(error):
            raise
        raise CommandError(str(error)) from error
    folder.mkdir(exist_ok=True)
    write_defects(report, folder / "defects.csv")
    if report.defects:
        _show(console, report.defects)
        log(f"All {len(report.defects)} defects: {folder / 'defects.csv'}")
    log(f"Data Docs: {folder / 'data_docs' / 'index.html'}")
    refuse_or_quarantine(read, workload, splits, report, folder / "left", log)
    console.print(f"{recipe}: the labels pass", markup=False, style="green", soft_wrap=True)


def _show(console: "Console", defects: Sequence["Defect"]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("where", "split", "check", "severity", "reason", "value", box=None, header_style="dim")
    for defect in _first_of_each(defects):
        # File names and texts may hold what rich takes for markup.
        cells = (defect.split, defect.check, defect.severity, defect.reason, defect.value)
        table.add_row(*map(Text, (f"{defect.file}:{defect.line}", *cells)))
    console.print(table)


def _first_of_each(defects: Sequence["Defect"]) -> Iterator["Defect"]:
    shown: Counter[tuple[str, str]] = Counter()
    for defect in defects:
        shown[defect.split, defect.check] += 1
        if shown[defect.split, defect.check] <= SHOWN_DEFECTS:
            yield defect
