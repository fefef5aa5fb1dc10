"""Times networks of full size in every form that optops gives them, and our int8 beside that of the toolkits.

`make bench-models`, with `PART=vision`, `text` or `quantisers` for one part, and with `JSON=FILE` to keep the records:
they are written after each network, and a network that FILE has already is not measured again. Everything runs in
processes of its own, in randomised interleaved pairs; a process that is not timed is frozen.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import networks
import quantisers
import text
import vision

PARTS = ("vision", "text", "quantisers")
Records = dict[str, list[dict[str, Any]]]


def jobs(part: str, seconds: float) -> dict[str, Callable[[], list[Any]]]:
    """Returns what measures each network of a part, by its name."""
    if part == "quantisers":
        return {one.network.name: partial(quantisers.compare, one, seconds, _say) for one in quantisers.subjects()}
    listed = vision.networks() if part == "vision" else text.networks()
    return {network.name: partial(networks.measure, network, seconds, _say) for network in listed}


def measure(parts: list[str], seconds: float, file: Path | None) -> Records:
    """Measures what a file does not have yet.

    Args:
        parts: Of `PARTS`.
        seconds: For each comparison.
        file: Where the records are kept after each network, if anywhere.

    Returns:
        Records by `networks` and `quantisers`, those of the file among them.
    """
    records: Records = {"networks": [], "quantisers": []}
    if file is not None and file.exists():
        records |= json.loads(file.read_text(encoding="utf-8"))
    for part in parts:
        kept = records["quantisers" if part == "quantisers" else "networks"]
        there = {record["network"] for record in kept}
        for name, job in jobs(part, seconds).items():
            if name in there:
                _say(f"{name}: on record already")
                continue
            for record in job():
                kept.append(asdict(record))
                sys.stdout.write(f"{line(kept[-1])}\n")
            sys.stdout.flush()
            if file is not None:
                file.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return records


def line(record: dict[str, Any]) -> str:
    """Returns a record as a line."""
    if record.get("reason"):
        return f"{record['network']}, {record['model']}, {record['runtime']} {record['precision']}: {record['reason']}"
    speed = f"{record['milliseconds']:.2f} ms, {record['ratio']:.2f}x [{record['low']:.2f}, {record['high']:.2f}]"
    if "peer" not in record:
        what = f"{record['model']}, {record['runtime']} {record['precision']}, {record['cell']}"
        return f"{record['network']}, {what}: {speed}, difference {record['difference']:.1e}"
    differences = f"differences {record['peer_difference']:.1e} and {record['difference']:.1e}"
    accuracies = [record[key] for key in ("float_accuracy", "peer_accuracy", "accuracy")]
    quality = "" if None in accuracies else ", accuracy {:.2f}, {:.2f} and {:.2f} %".format(*accuracies)
    theirs = f"{record['peer']} {record['peer_milliseconds']:.2f} ms"
    return f"{record['network']}, {record['runtime']}, {record['cell']}: {theirs}, ours {speed}, {differences}{quality}"


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", default=PARTS, help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each comparison")
    parser.add_argument("--json", type=Path, help="where to keep the records")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"part {unknown[0]!r} is unknown; choose of {', '.join(PARTS)}")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    measure(list(arguments.parts), arguments.seconds, arguments.json)


if __name__ == "__main__":
    main()
