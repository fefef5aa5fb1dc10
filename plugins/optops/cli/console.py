"""What all commands share: where they write, and how an error becomes a message."""

import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from optops.passwords import without_password

if TYPE_CHECKING:
    from rich.console import Console

Arguments = ParamSpec("Arguments")

FAILED = 1
"""Exit status of a command that did not do what it was asked to."""


PIPE_WIDTH = 240
"""Characters to a line where tables are written to a pipe, which has no width to fold them to."""


class CommandError(Exception):
    """Something that a command can not do; the message names the thing and the remedy."""


def explained(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Wraps a command so that an expected error shows its message, not a traceback, and exits with status 1."""

    @functools.wraps(command)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Exception as error:
            message = _message(error)
            if message is None:
                raise
            # Errors of MLflow's and of our own name the store or the registry.
            typer.echo(without_password(message), err=True)
            raise typer.Exit(FAILED) from None

    return wrapper


def _message(error: Exception) -> str | None:
    if type(error).__module__.startswith("optops."):  # all errors of our own speak to people
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and isinstance(error, mlflow.MlflowException):
        return f"MLflow: {error}"
    return None


def table_console() -> "Console":
    """Returns the console that tables are written to, as wide as the terminal or as `PIPE_WIDTH`."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show_markdown(console: "Console", text: str) -> None:
    """Shows Markdown laid out in a terminal, as it is written elsewhere: never as rich's own markup."""
    from rich.markdown import Markdown

    if console.is_terminal:
        console.print(Markdown(text))
    else:
        console.print(text, markup=False, soft_wrap=True)


def show_json(data: Any) -> None:
    """Writes data to standard output as JSON."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False))


def readable_bytes(size: float) -> str:
    """Returns a size for people, for example `3.1 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def readable_seconds(seconds: float) -> str:
    """Returns a duration for people, for example `2 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
