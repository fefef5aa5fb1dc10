"""Puts the figures of finished runs on record, and writes results.md and its plots from the record.

    python docs/results.py record RUN [--set KEY=VALUE ...] [--commit COMMIT] [--made-by COMMAND]
    python docs/results.py peers FILE [--commit COMMIT]
    python docs/results.py models FILE [--commit COMMIT]
    python docs/results.py write

RUN is a finished run; with `--set` its models are measured a second time, with another metric or on other data. FILE is
what `make bench-peers JSON=FILE` or `make bench-models JSON=FILE` wrote.

`results.json` holds one record per figure. A record with the same subject, seed, model and `what` replaces the old one.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import model_results
import peer_results

from optops.cli.evaluate import recipe_of
from optops.cli.records import find_run, read_record, stage_results
from optops.cli.settings import read_settings
from optops.evaluation import evaluate_run
from optops.measurement import plots
from optops.measurement.host import Fingerprint
from optops.tracking import Tracking
from optops.workloads.base import workload_of

FOLDER = Path(__file__).parent
RECORD, PAGE = FOLDER / "results.json", FOLDER / "results.md"
BASELINE = "baseline"
SWITCHES = ("distill", "prune", "quantize", "fuse")
SPEED_UP = "speed-up at batch "
LATENCY = "p50 at batch "
CHANGE = "change of "
DEFECTS = "label defects, "
ACCEPTED = "accepted: "
WIDEST = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512 without VNNI",
    "avx2": "AVX2 without VNNI",
}
"""Extensions of the instruction set, the most capable first, with what people call them."""
KEPT = {"peers": peer_results.keep, "models": model_results.keep}


@dataclass(frozen=True)
class Figure:
    """One figure with its origin.

    Attributes:
        subject: Name of the recipe.
        seed: Of the recipe.
        model: Name of the candidate; empty for what belongs to the data.
        what: What was measured.
        value: In `unit`.
        low: Lower end of the 95 % interval; None where there is none.
        high: Upper end.
        unit: Of the value.
        command: Makes the figure again.
        host: Processor, cores, threads.
        date: ISO date.
        commit: Of this repository, at which it was measured.
    """

    subject: str
    seed: int
    model: str
    what: str
    value: float
    low: float | None
    high: float | None
    unit: str
    command: str
    host: str
    date: str
    commit: str


def record(run: str, settings: Sequence[str], commit: str, made_by: str | None) -> None:
    """Puts a run's figures on record: quality on test, latency, size, label defects.

    They take the place of all that an earlier run of the recipe with this seed left: two runs are no comparison.
    """
    tracking = Tracking()
    parent = find_run(tracking, run)
    results = stage_results(tracking, parent)
    own = recipe_of(tracking, parent.info.run_id, {})
    host = Fingerprint.of_this_host()
    origin: dict[str, Any] = {
        "subject": own.name,
        "seed": own.seed,
        "host": f"{_processor(host)}, {own.target.threads} threads",
        "date": time.strftime("%Y-%m-%d", time.gmtime(parent.info.start_time / 1000)),
        "commit": commit,
    }
    off = "".join(f" --off {switch}" for switch in SWITCHES if own.is_off(switch))
    made = {"command": made_by or f"optops run dags/recipes/{own.name}.yaml --set seed={own.seed}{off}", **origin}
    figures = [*_speeds(read_record(tracking, parent), made), *_defects(results, made)]
    for changes in ([], list(settings)) if settings else ([],):
        recipe = recipe_of(tracking, parent.info.run_id, read_settings(changes))
        report = evaluate_run(tracking, recipe, results, "test", _say)
        command = " ".join(["optops evaluate", own.name, *(f"--set {change}" for change in changes)])
        what = report.signature.replace("|", " ")
        baseline, relative = report.scores[0].value, own.gate.tolerance_kind == "relative"
        allowed = own.gate.tolerance * abs(baseline) if relative else own.gate.tolerance
        accepted = baseline - allowed if workload_of(own).higher_is_better else baseline + allowed
        bound = {"value": accepted, "low": None, "high": None, "unit": report.metric, "command": command}
        figures.append(Figure(**{**origin, **bound, "model": "", "what": ACCEPTED + what}))
        for score in report.scores:
            measured = {**origin, "model": score.name, "unit": report.metric, "command": command}
            figures.append(Figure(what=what, value=score.value, low=score.low, high=score.high, **measured))
            changed = (score.change, score.change_low, score.change_high)
            value, low, high = (100 * change / baseline if relative else change for change in changed)
            measured["unit"] = "%" if relative else "points"
            figures.append(Figure(what=CHANGE + what, value=value, low=low, high=high, **measured))
    others = (figure for figure in read() if (figure.subject, figure.seed) != (own.name, own.seed))
    everything = [*others, *figures]
    everything.sort(key=lambda figure: (figure.subject, figure.seed))
    RECORD.write_text(json.dumps([asdict(figure) for figure in everything], indent=1) + "\n", encoding="utf-8")


def _processor(host: Fingerprint) -> str:
    # How fast int8 is depends on these more than on anything else.
    best = next((name for name in WIDEST if name in host.isa), "")
    return f"{host.cpu_model}{f' with {WIDEST[best]}' if best else ''}, {host.cores} cores"


def _speeds(run: dict[str, Any], made: dict[str, Any]) -> Iterator[Figure]:
    for candidate in run["candidates"]:
        if "parameters" in candidate["metrics"]:
            value = candidate["metrics"]["parameters"]
            yield Figure(model=candidate["name"], what="parameters", value=value, low=None, high=None, unit="", **made)
        for cell, measured in candidate["cells"].items():
            batch = cell.split()[1]
            speed = {"value": measured["ratio"], "low": measured["low"], "high": measured["high"], "unit": "x"}
            yield Figure(model=candidate["name"], what=SPEED_UP + batch, **speed, **made)
            latency = {"value": measured["p50_seconds"] * 1e3, "low": None, "high": None, "unit": "ms"}
            yield Figure(model=candidate["name"], what=LATENCY + batch, **latency, **made)


def _defects(results: Sequence[Any], made: dict[str, Any]) -> Iterator[Figure]:
    for result in results:
        if result.stage == "check_labels":
            for outcome in result.output["outcomes"]:
                if outcome["count"]:
                    what = f"{DEFECTS}{outcome['split']}: {outcome['check']}"
                    counted = {"value": outcome["count"], "low": None, "high": None, "unit": "examples"}
                    yield Figure(model="", what=what, **counted, **made)


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=FOLDER, capture_output=True, text=True, check=True)  # noqa: S607
        return done.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def read() -> list[Figure]:
    """Returns all figures on record."""
    if not RECORD.exists():
        return []
    return [Figure(**figure) for figure in json.loads(RECORD.read_text(encoding="utf-8"))]


def write() -> None:
    """Writes results.md and its plots."""
    parts = [
        "# Results",
        "What recipes of this repository came to on real data. `docs/results.py` writes this page from "
        "[results.json](results.json), which has the command, host, date and commit of every figure.",
    ]
    for subject, figures in groupby(read(), key=lambda figure: figure.subject):
        parts += _subject(subject, list(figures))
    parts += peer_results.section()
    parts += model_results.section()
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _subject(subject: str, figures: list[Figure]) -> Iterator[str]:
    yield f"## {subject}"
    hosts = sorted({figure.host for figure in figures})
    yield f"Measured on {'; '.join(hosts)}. Intervals are of 95 %; changes and speed-ups are against the baseline."
    seeds = sorted({figure.seed for figure in figures})
    for seed in seeds:
        of_seed = [figure for figure in figures if figure.seed == seed]
        yield f"### Seed {seed}"
        commands = sorted({figure.command for figure in of_seed}, key=lambda command: ("evaluate" in command, command))
        origins = "; ".join(sorted({f"{figure.date}, commit {figure.commit}" for figure in of_seed}))
        yield f"Made by {', '.join(f'`{command}`' for command in commands)}, {origins}."
        yield _table(of_seed)
        picture = FOLDER / "images" / f"results_{subject}_{seed}.png"
        _draw(of_seed, picture)
        yield f"![Quality against speed]({picture.relative_to(FOLDER)})"
    if len(seeds) > 1:
        yield f"### Spread over {len(seeds)} seeds"
        yield _spread(figures)
    defects = [figure for figure in figures if figure.what.startswith(DEFECTS) and figure.seed == seeds[0]]
    if defects:
        yield "### Label defects found"
        rows = (f"| {f.what.removeprefix(DEFECTS).replace(': ', ' | ')} | {f.value:.0f} |" for f in defects)
        yield "\n".join(["| split | check | examples |", "|---|---|---|", *rows])


def _table(figures: list[Figure]) -> str:
    whats = dict.fromkeys(figure.what for figure in figures if figure.model)
    qualities = [what.removeprefix(CHANGE) for what in whats if what.startswith(CHANGE)]
    batches = sorted((what for what in whats if what.startswith(SPEED_UP)), key=lambda what: int(what.split()[-1]))
    heads = ["model", "parameters", *(_short(quality, qualities) for quality in qualities), *batches]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for model in dict.fromkeys(figure.model for figure in figures if figure.model):
        found = {figure.what: figure for figure in figures if figure.model == model}
        parameters = f"{found['parameters'].value:,.0f}" if "parameters" in found else ""
        cells = [
            model,
            parameters,
            *(_quality(found, what) for what in qualities),
            *(_speed(found, w) for w in batches),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {_short(quality, qualities)} is {quality}" for quality in qualities)])


def _short(quality: str, qualities: list[str]) -> str:
    """Returns the metric's name with what tells it apart from the other metrics."""
    name, *parts = quality.split(" ")
    common = set.intersection(*(set(other.split(" ")) for other in qualities))
    return " ".join([name, *(part for part in parts if part not in common)])


def _quality(found: dict[str, Figure], what: str) -> str:
    if what not in found:
        return ""
    change = found[CHANGE + what]
    text = f"{found[what].value:.2f} [{found[what].low:.2f}, {found[what].high:.2f}]"
    return (
        text
        if change.model == BASELINE
        else f"{text}, {change.value:+.2f} {change.unit} [{change.low:+.2f}, {change.high:+.2f}]"
    )


def _speed(found: dict[str, Figure], what: str) -> str:
    if what not in found:
        return ""
    speed, latency = found[what], found[what.replace(SPEED_UP, LATENCY)]
    return f"{speed.value:.2f}x [{speed.low:.2f}, {speed.high:.2f}], {latency.value:.1f} ms"


def _draw(figures: list[Figure], picture: Path) -> None:
    change = next(figure.what for figure in figures if figure.what.startswith(CHANGE))
    quality = change.removeprefix(CHANGE)
    found = {(figure.model, figure.what): figure for figure in figures}
    baseline = found[BASELINE, quality].value
    points = [plots.QualityPoint(BASELINE, 1, 1, 1, baseline, baseline, baseline, "baseline")]
    for (model, what), speed in found.items():
        changed = found.get((model, change))
        if what == f"{SPEED_UP}1" and changed and model != BASELINE:
            unit = baseline / 100 if changed.unit == "%" else 1
            low, high = (baseline + unit * (end or 0) for end in (changed.low, changed.high))
            value = found[model, quality].value
            ends = (speed.low or speed.value, speed.high or speed.value)
            points.append(plots.QualityPoint(model, speed.value, *ends, value, low, high))
    bound = found["", ACCEPTED + quality].value
    region = plots.AcceptedRegion(1.0, bound, f"{quality.split(' ')[0]} on test", higher_is_better=bound <= baseline)
    plots.quality_against_latency(points, region, picture)


def _spread(figures: list[Figure]) -> str:
    """Returns a table of means, deviations and ends over the seeds; of speeds only where one kind of host timed all."""
    whats = dict.fromkeys(figure.what for figure in figures if figure.model)
    qualities = [what.removeprefix(CHANGE) for what in whats if what.startswith(CHANGE)]
    heads = {what: _short(what, qualities) for what in qualities}
    heads |= {CHANGE + what: f"change of {head}, {_unit(figures, CHANGE + what)}" for what, head in heads.items()}
    if len({figure.host for figure in figures}) == 1:
        heads |= {what: what for what in whats if what.startswith(SPEED_UP)}
    lines = [f"| {' | '.join(['model', *heads.values()])} |", "|---" * (1 + len(heads)) + "|"]
    for model in dict.fromkeys(figure.model for figure in figures if figure.model):
        values = [[f.value for f in figures if (f.model, f.what) == (model, what)] for what in heads]
        if any(len(some) > 1 for some in values):
            lines.append(f"| {' | '.join([model, *map(_spread_of, values)])} |")
    return "\n".join([*lines, "", "Mean and standard deviation, and in brackets the lowest and the highest."])


def _unit(figures: list[Figure], what: str) -> str:
    return next(figure.unit for figure in figures if figure.what == what)


def _spread_of(values: list[float]) -> str:
    if len(values) < 2:
        return ""
    return f"{mean(values):.2f} ± {stdev(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("run")
    recording.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    recording.add_argument("--commit", help="at which the run was made; the one checked out if not given")
    recording.add_argument("--made-by", help="the command that made the run, if it says more than seed and switches")
    for name in KEPT:
        keeping = commands.add_parser(name)
        keeping.add_argument("file", type=Path)
        keeping.add_argument("--commit", help="at which it was measured; the one checked out if not given")
        made_by = f"make bench-{name} JSON=FILE"
        keeping.add_argument("--made-by", default=made_by, help="the command that wrote the file")
    commands.add_parser("write")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.run, arguments.settings, arguments.commit or _commit(), arguments.made_by)
    if arguments.command in KEPT:
        origin = {
            "command": arguments.made_by,
            "host": _processor(Fingerprint.of_this_host()),
            "date": time.strftime("%Y-%m-%d"),
            "commit": arguments.commit or _commit(),
        }
        KEPT[arguments.command](arguments.file, origin)
    write()


if __name__ == "__main__":
    main()
