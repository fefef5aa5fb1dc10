"""Full-size networks, and int8 beside the toolkits', on record and on results.md; see `make bench-models`."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RECORD = FOLDER / "models.json"
PARTS = ("networks", "quantisers")
Record = dict[str, Any]


def keep(file: Path, origin: dict[str, str]) -> None:
    """Puts what `make bench-models JSON=...` wrote on record; a network's records replace those it had."""
    kept, new = _read(), json.loads(file.read_text(encoding="utf-8"))
    for part in PARTS:
        measured = {record["network"] for record in new[part]}
        others = [record for record in kept[part] if record["network"] not in measured]
        kept[part] = [*others, *({**record, **origin} for record in new[part])]
    RECORD.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def section() -> Iterator[str]:
    """Yields the parts of the page; nothing of what is not on record."""
    records = _read()
    if records["networks"]:
        yield "## Full-size networks, random weights"
        yield (
            "What lowering and a smaller model do to latency, quality aside: each is timed in turn with the whole "
            "network in stock TensorFlow, fp32, on all cores. A cell has the median latency and how many times as fast "
            "that is, with its 95 % interval. The difference is the largest of an output from that of the same model "
            "in stock TensorFlow, as a share of the largest output."
        )
        for network, found in groupby(records["networks"], key=lambda record: record["network"]):
            yield from _network(network, list(found))
    if records["quantisers"]:
        yield "## int8 beside the toolkits' own quantisers"
        yield (
            "One model and the same calibration examples for both, timed in turn in the same runtime; a ratio above 1 "
            "says how many times as fast ours is, with its 95 % interval. ONNX Runtime's is `quantize_static` after "
            "its preprocessing, with QDQ, min-max and a scale for each channel; NNCF's is `nncf.quantize` as it is by "
            "default. Accuracy is in percent on test images; the network without one has random weights. A difference "
            "is the largest of an output from that in full precision, as a share of the largest output."
        )
        for network, found in groupby(records["quantisers"], key=lambda record: record["network"]):
            yield from _duels(network, list(found))


def _read() -> dict[str, list[Record]]:
    if not RECORD.exists():
        return {part: [] for part in PARTS}
    records: dict[str, list[Record]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return records


def _network(name: str, records: list[Record]) -> Iterator[str]:
    yield f"### {name}"
    yield _origin(records[0])
    cells = list(dict.fromkeys(record["cell"] for record in records if record["cell"]))
    heads = ["model", "parameters", "runtime", *cells, "difference"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    left_out: dict[str, list[str]] = {}
    for (model, runtime, precision), form in groupby(
        records, key=lambda record: (record["model"], record["runtime"], record["precision"])
    ):
        timed = {record["cell"]: record for record in form}
        if reason := next((record["reason"] for record in timed.values() if record["reason"]), ""):
            left_out.setdefault(reason, []).append(f"{model}, {runtime} {precision}")
            continue
        first = next(iter(timed.values()))
        figures = [_speed(timed[cell]) if cell in timed else "" for cell in cells]
        row = [model, f"{first['parameters']:,}", f"{runtime} {precision}", *figures, f"{first['difference']:.0e}"]
        lines.append(f"| {' | '.join(row)} |")
    yield "\n".join(lines)
    if left_out:
        yield "\n".join(f"- Not timed: {'; '.join(forms)}. {reason}" for reason, forms in left_out.items())


def _duels(name: str, records: list[Record]) -> Iterator[str]:
    yield f"### {name}"
    yield _origin(records[0])
    accuracy = records[0]["float_accuracy"]
    heads = ["runtime", "peer", "cell", "peer, ms", "ours, ms", "ratio", "peer's difference", "ours"]
    heads += [] if accuracy is None else [f"peer's accuracy (fp32: {accuracy:.2f})", "ours"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for record in records:
        row = [record["runtime"], record["peer"], record["cell"]]
        row += [f"{record[key]:.2f}" for key in ("peer_milliseconds", "milliseconds")]
        row += [f"{record['ratio']:.2f}x [{record['low']:.2f}, {record['high']:.2f}]"]
        row += [f"{record[key]:.0e}" for key in ("peer_difference", "difference")]
        row += [] if accuracy is None else [f"{record[key]:.2f}" for key in ("peer_accuracy", "accuracy")]
        lines.append(f"| {' | '.join(row)} |")
    yield "\n".join(lines)


def _origin(record: Record) -> str:
    return f"Made by `{record['command']}` on {record['host']}, {record['date']}, commit {record['commit']}."


def _speed(record: Record) -> str:
    text = f"{record['milliseconds']:.1f} ms"
    same = record["low"] == record["high"]
    return text if same else f"{text}, {record['ratio']:.2f}x [{record['low']:.2f}, {record['high']:.2f}]"
