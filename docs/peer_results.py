"""The comparison with peers on record, and its part of results.md; see `make bench-peers`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
RECORD = FOLDER / "peers.json"
INK, BAR = "#333333", "#1f6fb4"


def keep(records: Path, origin: dict[str, str]) -> None:
    """Puts what `make bench-peers JSON=...` wrote on record, with its command, host, date and commit.

    It takes the place of what such a host left before: each kind of processor has a table of its own.
    """
    run = {"origin": origin, "records": json.loads(records.read_text(encoding="utf-8"))}
    others = [other for other in _runs() if other["origin"]["host"] != origin["host"]]
    RECORD.write_text(json.dumps([run, *others], indent=1) + "\n", encoding="utf-8")


def section() -> Iterator[str]:
    """Yields the parts of the page, and draws its plots; nothing if nothing is on record."""
    runs = _runs()
    if not runs:
        return
    yield "## The operator library against its peers"
    text = (
        "One set of random weights for all, 64 ids in and 64 out, in one interleaved run; a ratio above 1 says how "
        "many times as fast ours is, with its 95 % interval. CTranslate2 runs with "
        "`OMP_WAIT_POLICY=active OMP_PROC_BIND=true GOMP_SPINCOUNT=100000`."
    )
    peers = [one["peer"] for run in runs for one in run["records"]]
    if any(peer.startswith(("tensorflow", "onnxruntime")) for peer in peers):
        text += " TensorFlow and ONNX Runtime run graphs that optops rewrote, with a cache."
    yield text
    for run in runs:
        yield from _table(run["origin"], run["records"])


def _runs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else []
    return found


def _table(origin: dict[str, str], records: list[dict[str, Any]]) -> Iterator[str]:
    yield f"### {origin['host']}"
    yield f"Made by `{origin['command']}`, {origin['date']}, commit {origin['commit']}."
    lines = ["| work | threads | peer | peer, ms | ours, ms | ratio |", "|---|---|---|---|---|---|"]
    for one in records:
        interval = f"{one['ratio']:.2f}x [{one['low']:.2f}, {one['high']:.2f}]"
        times = f"{one['peer_ms']:.1f} | {one['ours_ms']:.1f}"
        lines.append(f"| {one['work']} | {one['threads']} | {one['peer']} | {times} | {interval} |")
    yield "\n".join(lines)
    name = re.sub(r"[^a-z0-9]+", "_", origin["host"].lower()).strip("_")
    picture = FOLDER / "images" / f"results_peers_{name}.png"
    _draw(records, picture)
    yield f"![How many times as fast, with intervals]({picture.relative_to(FOLDER)})"


def _draw(records: list[dict[str, Any]], picture: Path) -> None:
    with mpl.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(9, 0.7 + 0.27 * len(records)), layout="constrained")
        axes = figure.subplots()
        places = range(len(records), 0, -1)
        ratios = [one["ratio"] for one in records]
        arms = [[r["ratio"] - r["low"] for r in records], [r["high"] - r["ratio"] for r in records]]
        axes.barh(places, ratios, xerr=arms, color=BAR, height=0.6, error_kw={"ecolor": INK, "capsize": 2})
        for place, one in zip(places, records, strict=True):
            axes.annotate(f"{one['ratio']:.1f}x", (one["high"], place), (4, 0), textcoords="offset points", va="center")
        labels = [f"{r['work'].removeprefix('Transformer-')}, {r['threads']} threads: {r['peer']}" for r in records]
        axes.set_yticks(places, labels)
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.margins(x=0.1, y=0.01)
        axes.set_xlabel("times as fast as the peer")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(picture, dpi=110)
