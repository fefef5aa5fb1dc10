"""`optops gc`: removes what nothing needs any more, or forgets one cached result."""

from itertools import chain
from typing import Annotated

import typer

from optops.cli.console import explained, readable_bytes


@explained
def gc(
    older_than: Annotated[int, typer.Option(metavar="DAYS", min=1, help="Keep what was made or used since.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    forget: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Forget the cached result with this key, or that made this artifact URI."),
    ] = None,
) -> None:
    """Remove old work folders, unused copies of artifacts, and candidates of runs that nothing refers to.

    Never touched: what a registered version, its lineage and evidence, a run that has not ended, or a recipe's newest
    finished run in an experiment needs.
    """
    from optops.cli.collection import forget_result, local_garbage, store_garbage
    from optops.tracking import Tracking

    tracking = Tracking()
    if forget is not None:
        for line in forget_result(tracking, forget, dry_run=dry_run):
            typer.echo(line)
        return
    total = 0
    for item in chain(local_garbage(older_than), store_garbage(tracking, older_than)):
        done = True if dry_run else item.remove()
        total += item.size if done else 0
        verb = "would remove" if dry_run else "removed" if done else "in use, kept"
        typer.echo(f"{verb} {item.name} ({readable_bytes(item.size)}): {item.reason}")
    typer.echo(f"{readable_bytes(total)} {'would be freed' if dry_run else 'freed'}")
