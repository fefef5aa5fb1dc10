"""Prints how many times as fast the optimiser makes encoders, as rows of a table in Markdown.

    python docs/optimizer_speed.py SAVED_MODEL ...

The SavedModels take ids and, where they do, masks and segments: such as encoder_saved_models.py writes. Each is
optimised in fp32 and in int8, and timed in turn with what it was, on sentences without padding, with 95 % intervals.
"""

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optops.graph import optimize
from optops.graph.optimizer.benchmark import Rounds, interleaved
from optops.kernels.tensorflow import load_operators
from optops.models.keras import tf

SHAPES = ((1, 64), (1, 128), (8, 64))
PRECISIONS = ("fp32", "int8")
SECONDS = 5.0


def inputs_of(function: Any, shape: tuple[int, int]) -> dict[str, tf.Tensor]:
    """Returns ids, masks of ones and segments of zeros, as a signature names them."""
    made = {}
    for name, spec in function.structured_input_signature[1].items():
        if "mask" in name:
            values = np.ones(shape)
        elif "segment" in name or "type" in name:
            values = np.zeros(shape)
        else:
            values = np.random.default_rng(1).integers(5, 100, shape)
        made[name] = tf.constant(values.astype(spec.dtype.as_numpy_dtype))
    return made


def ratio(rounds: Rounds) -> str:
    """Returns how many times as fast, with its interval."""
    low, middle, high = (float(np.exp(-rounds.ratio + step * rounds.error)) for step in (-1.96, 0, 1.96))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def row(source: Path, precision: str) -> Iterator[str]:
    """Yields the cells of one model in one precision."""
    with tempfile.TemporaryDirectory() as folder:
        report = optimize(source, Path(folder) / "faster", precision=precision, benchmark=False, picture=False)
        signature = report.signatures[0]
        stacks = [str(each["weights"]) for each in signature.rewrites if each["pattern"] == "encoder stack"]
        yield from (source.name, precision, str(sum(int(text.split()[0]) for text in stacks)))
        yield f"{signature.difference:.1e}"
        # A signature holds its variables weakly: the models have to live as long as they are called.
        models = [tf.saved_model.load(str(path)) for path in (source, Path(folder) / "faster")]
        before, after = (model.signatures[signature.name] for model in models)
        for shape in SHAPES:
            given = inputs_of(before, shape)
            rounds = interleaved(partial(before, **given), partial(after, **given), SECONDS)
            yield f"{np.median(rounds.before) * 1e3:.1f} / {np.median(rounds.after) * 1e3:.1f}: {ratio(rounds)}"


if __name__ == "__main__":
    load_operators()
    shapes = " | ".join(f"{batch}x{length}, ms" for batch, length in SHAPES)
    lines = [f"| model | precision | layers found | largest difference | {shapes} |", "|" + "---|" * (4 + len(SHAPES))]
    sys.stdout.write("\n".join(lines) + "\n")
    for source in map(Path, sys.argv[1:]):
        for precision in PRECISIONS:
            sys.stdout.write(f"| {' | '.join(row(source, precision))} |\n")
            sys.stdout.flush()
