"""`optops rollback`: the previous champion is the champion again."""

from typing import Annotated

import typer

from optops.cli.console import explained


@explained
def rollback(name: Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)]) -> None:
    """Make the previous champion of a registered model the champion again."""
    from optops.registry import rollback as roll_back
    from optops.tracking import Tracking, model_version_url

    before, now = roll_back(Tracking().client, name)
    typer.echo(f"{name}: version {now} is the champion again; it was version {before}")
    typer.echo(model_version_url(name, now))
