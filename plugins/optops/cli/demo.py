"""`optops demo-data`, `optops demo`, `optops ui`: the demo's corpus, the demo in a real Airflow, and the pages."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optops.cli.console import FAILED, CommandError, explained, readable_seconds

if TYPE_CHECKING:
    from optops.services import Outcome

SHARES = {"validation": 0.05, "test": 0.1}
LANGUAGES = ("en", "de")
PAIRS, SEED = 5_000, 17
FACTS_FILE = "corpus.json"
DEMO_RECIPE = Path("dags/recipes/travel_phrases.yaml")
NOTHING_PROMOTED = 2


@explained
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where the corpus goes; made if need be.", show_default=False)],
    pairs: Annotated[int, typer.Option(help="Sentence pairs of all three splits.", min=100)] = PAIRS,
    seed: Annotated[int, typer.Option(help="Seed of the grammar.")] = SEED,
) -> None:
    """Write a corpus of English and German travel phrases, generated from a grammar."""
    made = write_demo_data(folder, pairs, seed)
    typer.echo(f"{folder}: {'wrote' if made else 'there already:'} {pairs} pairs (seed {seed})")


def write_demo_data(folder: Path, pairs: int = PAIRS, seed: int = SEED) -> bool:
    """Writes the corpus unless it is there already, complete and unchanged; returns whether it did."""
    files = [f"{split}.{language}" for split in ("train", *SHARES) for language in LANGUAGES]
    if _facts(folder, files, pairs, seed) == _kept_facts(folder):
        return False
    from optops.workloads.translation.phrases import write_corpus

    sizes = {split: round(pairs * share) for split, share in SHARES.items()}
    write_corpus(
        folder,
        train=pairs - sum(sizes.values()),
        validation=sizes["validation"],
        test=sizes["test"],
        seed=seed,
    )
    (folder / FACTS_FILE).write_text(json.dumps(_facts(folder, files, pairs, seed), indent=1), encoding="utf-8")
    return True


def _facts(folder: Path, files: list[str], pairs: int, seed: int) -> dict[str, Any]:
    from optops.candidate import digest_file

    digests = {name: digest_file(folder / name) for name in files if (folder / name).is_file()}
    return {"pairs": pairs, "seed": seed, "sha256": digests}


def _kept_facts(folder: Path) -> Any:
    try:
        return json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


@explained
def demo(
    recipe: Annotated[Path, typer.Argument(help="The recipe to run; its data is generated.")] = DEMO_RECIPE,
    port: Annotated[int | None, typer.Option(help="Of Airflow's pages; the next free one from 8080.")] = None,
) -> None:
    """Generate the demo's corpus and run its DAG in a real Airflow, started for this.

    Exit status as of `optops run`: 0 a model was promoted, 2 nothing was, 1 something failed.
    """
    from optops.recipe_file import read_recipe
    from optops.services import run_dag

    started = time.monotonic()
    read = read_recipe(recipe)
    folder = getattr(read.data, "folder", None)
    if folder is None:
        raise CommandError(f"{recipe}: the demo's corpus needs the key `data.folder`; take {DEMO_RECIPE} for a pattern")
    typer.echo(f"{'generated' if write_demo_data(Path(folder)) else 'found'} the corpus in {folder}")
    outcome = run_dag(recipe, {}, typer.echo, port=port)
    promoted = _show_demo(outcome)
    typer.echo(f"The demo took {readable_seconds(time.monotonic() - started)}.")
    if outcome.state != "success":
        raise typer.Exit(FAILED)
    if not promoted:
        raise typer.Exit(NOTHING_PROMOTED)


def _show_demo(outcome: "Outcome") -> bool:
    from rich.console import Console
    from rich.markdown import Markdown

    from optops.cli.outcome import how_to_use
    from optops.cli.records import find_run, read_record
    from optops.tracking import Tracking

    console = Console(highlight=False)
    console.print(Markdown(outcome.summary) if console.is_terminal else outcome.summary, soft_wrap=True)
    tracking = Tracking()
    record = read_record(tracking, find_run(tracking, outcome.run_id))
    registered = record["registered"]
    promoted = bool(registered and registered["promoted"])
    lines = how_to_use(registered["name"]) if promoted else []
    lines += [f"MLflow run: {record['url']}", "The pages of Airflow and MLflow: make ui (or optops ui)"]
    for line in [*lines, f"Again at any time: optops show {record['run_id']}"]:
        console.print(line, markup=False, soft_wrap=True)
    return promoted


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
