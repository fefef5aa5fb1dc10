"""`optops doctor`: what this machine has, what it lacks, and what follows."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from optops.cli.console import FAILED, explained, show_json

if TYPE_CHECKING:
    from rich.console import Console

State = Literal["ok", "note", "missing"]
MARKS: dict[State, str] = {"ok": "[green]✔[/]", "note": "[yellow]![/]", "missing": "[red]✘[/]"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: What it belongs to.
        name: Of the thing.
        state: `ok`; `note`, optops works without it; `missing`, it does not.
        text: What was found, and the remedy if something is wrong.
    """

    group: str
    name: str
    state: State
    text: str


@explained
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False) -> None:
    """Say what this machine has, what it lacks, and what follows. Exit status 1 if something required is missing."""
    from rich.console import Console

    from optops.cli.examination import examine

    findings = examine()
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        _show(Console(highlight=False), findings)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(FAILED)


def _show(console: "Console", findings: list[Finding]) -> None:
    from rich.markup import escape

    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            console.print(f"\n[bold]{group}[/]")
        console.print(f"{MARKS[finding.state]} {finding.name}: {escape(finding.text)}", soft_wrap=True)
