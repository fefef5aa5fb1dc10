"""Times the operator library against what a user could pick instead, on the same weights.

`make bench-peers`, or with `JSON=FILE` to write the records as well. Translators are held against CTranslate2, tuned as
its makers recommend for short calls, and the same weights lowered to TensorFlow and ONNX Runtime; encoders of BERT's
sizes against OpenVINO, ONNX Runtime, TensorFlow and XLA. All run in processes of their own, in randomised interleaved
blocks; a process that is not timed is frozen. Ratios are above 1 where ours is faster.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import encoders
import translators
from comparison import Record

PEERS = ("ctranslate2", "openvino", "onnxruntime", "tensorflow", "xla")
SIZES = (*translators.SIZES, *encoders.SIZES)


def comparisons(size: str, threads: list[int], peers: set[str], seconds: float) -> Iterator[Record]:
    """Yields the records of one model for each number of threads."""
    suite, sizes = (translators, translators.SIZES) if size in translators.SIZES else (encoders, encoders.SIZES)
    with tempfile.TemporaryDirectory() as folder:
        bench = suite.Bench(Path(folder), sizes[size], seconds)
        for count in threads:
            yield from suite.comparisons(bench, count, peers)


def main() -> None:
    """Runs all comparisons of the sizes that are named, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["base", "tiny", "bert-base"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison")
    parser.add_argument("--json", type=Path, help="where to write the records")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    records = []
    for size in arguments.sizes:
        for record in comparisons(size, arguments.threads, set(arguments.peers), arguments.seconds):
            records.append(record)
            sys.stdout.write(
                f"{record.work}, {record.threads} threads: {record.peer} {record.peer_ms:.1f} ms, "
                f"ours {record.ours_ms:.1f} ms, {record.ratio:.2f}x [{record.low:.2f}, {record.high:.2f}]\n"
            )
            sys.stdout.flush()
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(one) for one in records], indent=1))


if __name__ == "__main__":
    main()
