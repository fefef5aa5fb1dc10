"""`optops show`: what a run came to, from MLflow alone."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optops.cli.console import explained, readable_seconds, show_json, show_markdown, table_console
from optops.figures import decimals_beside

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@explained
def show(
    run: Annotated[
        str,
        typer.Argument(help="MLflow run id, the beginning of one, a label, or a recipe's name.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show a run's stages, candidates, speed-ups and verdict; for a recipe's name its newest run."""
    from optops.cli.records import find_run, read_record
    from optops.tracking import Tracking

    tracking = Tracking()
    record = read_record(tracking, find_run(tracking, run))
    if as_json:
        show_json(record)
    else:
        _show(table_console(), record)


def _show(console: "Console", record: dict[str, Any]) -> None:
    from rich.table import Table

    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"] / 1000))
    took = "not ended" if record["seconds"] is None else readable_seconds(record["seconds"])
    console.print(f"{record['name']}: {record['status']}, verdict {record['verdict']['verdict']}", style="bold")
    console.print(f"started {started}, {took}, MLflow run {record['run_id']}", soft_wrap=True)
    console.print(record["url"], soft_wrap=True)
    stages = Table("stage", "status", "time", "key", box=None, header_style="dim")
    for stage in record["stages"]:
        seconds = "" if stage["seconds"] is None else readable_seconds(stage["seconds"])
        status = "cached" if stage["cached"] else "skipped" if stage["skipped"] else stage["status"].lower()
        stages.add_row(stage["name"], status, seconds, stage["key"])
    console.print(stages)
    console.print(_candidate_table(record["candidates"], record["metric"]))
    for stage in record["stages"]:
        for name, reason in stage["dropped"].items():
            console.print(f"{stage['stage']} dropped {name}: {reason}", markup=False, soft_wrap=True)
    markdown = record["verdict"].get("markdown")
    if markdown:
        show_markdown(console, markdown)
    registered = record["registered"]
    if registered:
        role = "the champion" if registered["champion"] else "not the champion now"
        console.print(
            f"{registered['name']} version {registered['version']}: {role}. {registered['url']}", soft_wrap=True
        )


def _candidate_table(candidates: list[dict[str, Any]], metric: str) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    cells = list(dict.fromkeys(cell for candidate in candidates for cell in candidate["cells"]))
    # A metric's name is the user's: rich would take "error [mm]" for markup.
    table = Table("candidate", "precision", "runtime", escape(metric), *cells, "key", box=None, header_style="dim")
    # The baseline's is the first.
    decimals = decimals_beside(next((c["metrics"][metric] for c in candidates if metric in c["metrics"]), 0.0))
    for candidate in candidates:
        quality = f"{candidate['metrics'][metric]:.{decimals}f}" if metric in candidate["metrics"] else ""
        speeds = [_speed(candidate["cells"].get(cell)) for cell in cells]
        runtime = candidate["runtime"] or ""
        table.add_row(candidate["name"], candidate["precision"], runtime, quality, *speeds, candidate["key"])
    return table


def _speed(cell: dict[str, Any] | None) -> str:
    return "" if cell is None else f"{cell['ratio']:.2f}x, {cell['p50_seconds'] * 1e3:.1f} ms"
