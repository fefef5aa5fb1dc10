"""`optops run`: the whole flow without Airflow."""

import re
import secrets
import shlex
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optops.cli.console import CommandError, explained, show_json
from optops.cli.settings import read_settings

if TYPE_CHECKING:
    from rich.console import Console

    from optops.cli.progress import LiveProgress, PlainProgress
    from optops.driver import Answer, FlowOutcome
    from optops.recipe import Recipe

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,99}")


class Switch(StrEnum):
    """Stages that a recipe may switch off."""

    DISTILL = "distill"
    PRUNE = "prune"
    QUANTIZE = "quantize"
    FUSE = "fuse"


@explained
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key for this run, e.g. gate.tolerance=0.01."),
    ] = None,
    off: Annotated[list[Switch] | None, typer.Option("--off", help="Switch a stage off for this run.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve the promotion if the gate accepts.")] = False,
    label: Annotated[
        str | None,
        typer.Option("--label", help="Name of the run; goes on in the one of that name and recipe, if there is one."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the outcome as JSON; progress goes to stderr.")
    ] = False,
) -> None:
    """Run a recipe's whole flow here, without Airflow.

    Exit status: 0 a model was promoted, or is the champion already; 2 nothing was promoted, the verdict says why;
    1 a stage failed or the recipe can not be used; 130 interrupted.
    """
    from rich.console import Console

    from optops.cli.outcome import show_outcome, to_json
    from optops.recipe_file import read_recipe

    changes = {**read_settings(settings or ()), **{switch.value: "off" for switch in off or ()}}
    read = read_recipe(recipe, changes)
    name = _checked_label(label)
    console = Console(stderr=as_json, highlight=False)
    outcome, log = _execute(read, name, console, yes)
    if as_json:
        show_json(to_json(outcome))
    else:
        show_outcome(console, outcome, log, again=_command(recipe, settings or (), off or (), name))
    raise typer.Exit(outcome.exit_status)


def _checked_label(label: str | None) -> str:
    if label is None:
        return f"{time.strftime('%Y-%m-%dT%H.%M.%S')}-{secrets.token_hex(2)}"
    if not LABEL.fullmatch(label):
        raise CommandError(
            f"--label {label!r}: use at most 100 letters, digits and `_.:+-`, beginning with a letter or digit"
        )
    return label


def _execute(recipe: "Recipe", label: str, console: "Console", yes: bool) -> "tuple[FlowOutcome, Path]":
    from optops.cli.progress import LiveProgress, PlainProgress, RunLog
    from optops.driver import run_flow
    from optops.home import subfolder
    from optops.runners.subprocess import SubprocessRunner

    log = RunLog(subfolder("logs") / f"{recipe.name} {label}.log")
    progress = LiveProgress(console) if console.is_terminal else PlainProgress(console)

    try:
        with progress:
            outcome = run_flow(
                recipe,
                SubprocessRunner,
                label=label,
                listeners=(log.take, progress.take),
                approve=lambda asked, verdict: "approved" if yes else _ask(console, progress, asked, verdict),
            )
    finally:
        log.close()
    return outcome, log.path


def _ask(console: "Console", progress: "LiveProgress | PlainProgress", recipe: "Recipe", verdict: str) -> "Answer":
    from rich.markdown import Markdown

    if not (sys.stdin.isatty() and console.is_terminal):
        return "unanswered"
    with progress.paused():
        console.print(Markdown(verdict))
        try:
            answer = console.input(f"\nPromote the challenger of {recipe.registry.name}? (yes/no) ")
        except EOFError:
            return "unanswered"
    return "approved" if answer.strip().lower() in ("y", "yes") else "rejected"


def _command(recipe: Path, settings: Iterable[str], off: Iterable[Switch], label: str) -> str:
    options = [part for setting in settings for part in ("--set", setting)]
    options += [part for switch in off for part in ("--off", switch.value)]
    return shlex.join(["optops", "run", str(recipe), *options, "--label", label])
