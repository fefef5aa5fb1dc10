"""`optops demo-data`, `optops demo`, `optops ui`: the demo's data, the demo in a real Airflow, and the pages."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optops.cli.console import CommandError, explained, readable_seconds, show_markdown

if TYPE_CHECKING:
    from optops.services import Outcome

SEED = 17
FACTS_FILE = "demo.json"
DEMO_RECIPE = Path("dags/recipes/travel_phrases.yaml")
LEAST_EXAMPLES = 20
NOTHING_PROMOTED = 2
NAMED = 3


@explained
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where the data goes; made if need be.", show_default=False)],
    workload: Annotated[str, typer.Option(help="What kind of data.")] = "translation",
    examples: Annotated[
        int | None, typer.Option("--examples", "--pairs", help="Of all three splits; the workload's own if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is generated.")] = SEED,
) -> None:
    """Write data of a workload that is generated, for example English and German travel phrases from a grammar."""
    made = write_demo_data(folder, workload, examples, seed)
    from optops.workloads.base import load_workload

    count = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))["examples"]
    what = load_workload(workload).examples_name
    typer.echo(f"{folder}: {'wrote' if made else 'there already:'} {count} {what} (seed {seed})")


def write_demo_data(folder: Path, workload: str = "translation", examples: int | None = None, seed: int = SEED) -> bool:
    """Writes the generated data of a workload unless it is there already, complete and unchanged; returns whether.

    Raises:
        CommandError: If the workload is unknown, has no such data, or not of so few examples, or if the folder holds
            what is not generated.
    """
    from optops.workloads.base import load_workload

    try:
        maker = load_workload(workload)
    except LookupError as error:
        raise CommandError(f"--workload: {error}") from None
    wanted = maker.demo_examples if examples is None else examples
    if not maker.demo_examples:
        raise CommandError(f"workload {workload!r} generates no data; give a recipe data of your own")
    if wanted < LEAST_EXAMPLES:
        raise CommandError(f"--examples: {wanted} are too few for three splits; take {LEAST_EXAMPLES} or more")
    facts = {"workload": workload, "examples": wanted, "seed": seed}
    kept = _kept_facts(folder)
    if kept is not None and kept["sha256"] and kept == {**facts, "sha256": _digests(folder, kept["sha256"])}:
        return False
    if kept is None and (others := _names_in(folder)):
        raise CommandError(
            f"{folder} holds {others} and no {FACTS_FILE} of generated data: it is left as it is. Name a folder that "
            "is empty or absent (in a recipe: `data.folder`); to train on what is there, use `optops run`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # First, so that a killed command can be called again.
    (folder / FACTS_FILE).write_text(json.dumps({**facts, "sha256": {}}, indent=1), encoding="utf-8")
    maker.write_demo(folder, wanted, seed)
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    facts["sha256"] = _digests(folder, [name for name in files if name != FACTS_FILE])
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return True


def _digests(folder: Path, files: Iterable[str]) -> dict[str, str]:
    from optops.candidate import digest_file

    return {name: digest_file(folder / name) for name in files if (folder / name).is_file()}


def _kept_facts(folder: Path) -> dict[str, Any] | None:
    """Returns what an earlier call wrote about its data, complete or not; None if none did."""
    try:
        kept = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return kept if isinstance(kept, dict) and isinstance(kept.get("sha256"), dict) else None


def _names_in(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


@explained
def demo(
    recipe: Annotated[Path, typer.Argument(help="The recipe to run; its data is generated.")] = DEMO_RECIPE,
    port: Annotated[int | None, typer.Option(help="Of Airflow's pages; the next free one from 8080.")] = None,
) -> None:
    """Generate the demo's data and run its DAG in a real Airflow, started for this.

    Exit status as of `optops run`: 0 a model was promoted, or is the champion already; 2 nothing was promoted;
    1 something failed.
    """
    from optops.driver import OPEN
    from optops.recipe_file import read_recipe
    from optops.services import run_dag

    started = time.monotonic()
    read = read_recipe(recipe)
    folder = getattr(read.data, "folder", None)
    if folder is None:
        raise CommandError(f"{recipe}: the demo's data needs the key `data.folder`; take {DEMO_RECIPE} for a pattern")
    typer.echo(f"{'generated' if write_demo_data(Path(folder), read.workload) else 'found'} the data in {folder}")
    outcome = run_dag(recipe, {}, typer.echo, port=port)
    if outcome.tasks.get(OPEN) == "failed":  # no MLflow run, so nothing to show
        raise CommandError(f"{OPEN} failed; what it said stands above")
    has_champion = _show_demo(outcome)
    typer.echo(f"The demo took {readable_seconds(time.monotonic() - started)}.")
    if outcome.state != "success":
        failed = [task for task, state in outcome.tasks.items() if state == "failed"]
        raise CommandError(f"the run failed: {', '.join(failed)}; what they said stands above")
    if not has_champion:
        raise typer.Exit(NOTHING_PROMOTED)


def _show_demo(outcome: "Outcome") -> bool:
    from rich.console import Console

    from optops.cli.outcome import how_to_use
    from optops.cli.records import find_run, read_record
    from optops.tracking import Tracking

    console = Console(highlight=False)
    show_markdown(console, outcome.summary)
    tracking = Tracking()
    record = read_record(tracking, find_run(tracking, outcome.run_id))
    registered = record["registered"]
    has_champion = bool(registered and registered["champion"])
    lines = how_to_use(registered["name"]) if has_champion else []
    lines += [f"MLflow run: {record['url']}", "The pages of Airflow and MLflow: make ui (or optops ui)"]
    for line in [*lines, f"Again at any time: optops show {record['run_id']}"]:
        console.print(line, markup=False, soft_wrap=True)
    return has_champion


@explained
def ui(
    dags: Annotated[Path, typer.Option(help="The folder of DAG files.")] = Path("dags"),
    airflow_port: Annotated[int | None, typer.Option(help="The next free one from 8080 if not given.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="The next free one from 5000 if not given.")] = None,
) -> None:
    """Run Airflow and MLflow on this machine, for its browsers alone, until Ctrl-C."""
    from optops.services import ui as run_pages

    if not dags.is_dir():
        raise CommandError(f"--dags: {dags} is no folder; `optops init NAME --folder {dags}` makes one with a recipe")
    run_pages(dags, typer.echo, airflow_port=airflow_port, mlflow_port=mlflow_port)
