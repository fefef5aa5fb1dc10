"""The comparison with peers on record, and its part of results.md; see `make bench-peers`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
RECORD = FOLDER / "peers.json"
PICTURE = FOLDER / "images" / "results_peers.png"
INK, BAR = "#333333", "#1f6fb4"


def keep(records: Path, origin: dict[str, str]) -> None:
    """Puts what `make bench-peers JSON=...` wrote on record, with its command, host, date and commit."""
    data = {"origin": origin, "records": json.loads(records.read_text(encoding="utf-8"))}
    RECORD.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def section() -> Iterator[str]:
    """Yields the parts of the page, and draws its plot; nothing if nothing is on record."""
    if not RECORD.exists():
        return
    data = json.loads(RECORD.read_text(encoding="utf-8"))
    origin, records = data["origin"], data["records"]
    yield "## The operator library against its peers"
    text = (
        "One set of random weights for all, 64 ids in and 64 out, in one interleaved run; a ratio above 1 says how "
        "many times as fast ours is, with its 95 % interval. CTranslate2 runs with "
        "`OMP_WAIT_POLICY=active OMP_PROC_BIND=true GOMP_SPINCOUNT=100000`."
    )
    if any(one["peer"].startswith(("tensorflow", "onnxruntime")) for one in records):
        text += " TensorFlow and ONNX Runtime run graphs that optops rewrote, with a cache."
    yield text
    yield f"Made by `{origin['command']}` on {origin['host']}, {origin['date']}, commit {origin['commit']}."
    lines = ["| work | threads | peer | peer, ms | ours, ms | ratio |", "|---|---|---|---|---|---|"]
    for one in records:
        interval = f"{one['ratio']:.2f}x [{one['low']:.2f}, {one['high']:.2f}]"
        times = f"{one['peer_ms']:.1f} | {one['ours_ms']:.1f}"
        lines.append(f"| {one['work']} | {one['threads']} | {one['peer']} | {times} | {interval} |")
    yield "\n".join(lines)
    _draw(records)
    yield f"![How many times as fast, with intervals]({PICTURE.relative_to(FOLDER)})"


def _draw(records: list[dict[str, Any]]) -> None:
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
        figure.savefig(PICTURE, dpi=110)
