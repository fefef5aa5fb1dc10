"""Prunes every network of tf_keras.applications and writes pruned_networks.md: what was found, how small, how exact.

    python docs/pruned_networks.py [NAME ...]

All networks if none is named. What is done is kept in pruned_networks.json, so a stopped run goes on where it was; a
network that is named is done again.
"""

import gc
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from optops.compression import follow_channels
from optops.compression.pruning.channels.prune import least_important
from optops.compression.pruning.channels.rebuild import mask_channels, without_channels
from optops.models.functional.derived import derive_anew
from optops.models.keras import keras

FOLDER = Path(__file__).parent
RECORD, PAGE = FOLDER / "pruned_networks.json", FOLDER / "pruned_networks.md"
SIZE, CLASSES, RATIOS = 96, 10, (0.3, 0.5)
SATURATED = 1e-10
"""A difference below it, far below the rounding of float32, says that a softmax gave one class everything."""


def networks() -> list[str]:
    """Returns the names of all networks."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def examine(name: str) -> dict[str, Any]:
    """Prunes one network, of random weights, and holds what is left against the whole one, masked."""
    keras.utils.set_random_seed(1)
    # Random logits grow with the depth: a softmax would give one class everything, whatever is pruned.
    settings = {"input_shape": (SIZE, SIZE, 3), "classes": CLASSES, "classifier_activation": None}
    model = getattr(keras.applications, name)(weights=None, **settings)
    random = np.random.default_rng(1)
    for weight in model.weights:
        # The initial ones of a batch norm or a layer scale say nothing about channels.
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    derive_anew(model)
    images = random.random((2, SIZE, SIZE, 3))
    graph = follow_channels(model)
    row: dict[str, Any] = {
        "compared": f"logits in {keras.backend.floatx()}",
        "groups": len(graph.groups),
        "channels": sum(len(group.channels) for group in graph.groups),
        "parameters": model.count_params(),
        "left_whole": dict(Counter(map(_kind, graph.left_whole.values()))),
    }
    # A larger ratio removes what a smaller one does, and more: so the masks may add up.
    for ratio, removed in [(ratio, least_important(graph, ratio)) for ratio in RATIOS]:
        smaller = without_channels(model, graph, removed)
        found = np.asarray(smaller(images, training=False))
        row[f"parameters at {ratio}"] = smaller.count_params()
        mask_channels(graph, removed)
        expected = np.asarray(model(images, training=False))
        if not (np.isfinite(expected).all() and np.isfinite(found).all() and expected.any()):
            raise ValueError("its outputs are not finite, or zero: nothing can be said of them")
        row[f"difference at {ratio}"] = float(np.abs(found - expected).max() / np.abs(expected).max())
    return row


def _kind(reason: str) -> str:
    """Returns a reason without the name of its layer."""
    return re.sub(r"\S+ \((\w+)\) needs", r"a \1 needs", re.sub(r"activation of \S+", "activation", reason))


def page(rows: dict[str, dict[str, Any]]) -> str:
    """Returns the page."""
    small, half = RATIOS
    text = (
        "# Networks of tf_keras.applications, pruned\n\n"
        f"Random weights, inputs of {SIZE} x {SIZE}, {CLASSES} classes. `docs/pruned_networks.py` prunes each by "
        f"{small:.0%} and by {half:.0%} of the channels that may go, widths in multiples of 8, and writes this page. "
        "The difference is the largest of an output from that of the whole network with everything that reads a "
        "removed channel set to zero, as a share of the largest output.\n"
    )
    measured = [row for row in rows.values() if "error" not in row]
    if any("compared" in row for row in measured):
        text += (
            "\nOutputs are logits in float64; where a softmax, or an `Activation` that mixes all channels, is among "
            "what is left whole, they are probabilities.\n"
        )
    if not all("compared" in row for row in measured):
        text += f"\n{_of_earlier_rows(rows)}\n"
    lines = [
        f"| network | groups | channels | parameters | at {small:.0%} | at {half:.0%} | difference | left whole |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(rows.items()):
        if "error" in row:
            lines.append(f"| {name} | | | | | | | {row['error']} |")
            continue
        shares = " | ".join(f"{row[f'parameters at {ratio}'] / row['parameters']:.0%}" for ratio in RATIOS)
        whole = "; ".join(f"{count}: {reason}" for reason, count in row["left_whole"].items())
        sizes = f"{row['groups']} | {row['channels']:,} | {row['parameters']:,}"
        mark = "" if "compared" in row else " \\*"
        lines.append(f"| {name}{mark} | {sizes} | {shares} | {_worst(row):.0e} | {whole} |")
    return text + "\n" + "\n".join(lines) + "\n"


def _worst(row: dict[str, Any]) -> float:
    return max(row[f"difference at {ratio}"] for ratio in RATIOS)


def _of_earlier_rows(rows: dict[str, dict[str, Any]]) -> str:
    """Returns what the rows show that do not say what they compare: they were made before the script noted it."""
    earlier = {name: row for name, row in rows.items() if "error" not in row and "compared" not in row}
    saturated = sorted(name for name, row in earlier.items() if _worst(row) < SATURATED)
    text = (
        "Rows marked \\* are still of float32, with a softmax behind the logits and with channels chosen by their "
        "norms' shares of their group's, not of what would be left of it."
    )
    if saturated:
        text += f" Random weights saturate it in {', '.join(saturated)}: these differences say nothing."
    return text


def main() -> None:
    """Prunes what is named, or what is not done yet."""
    # Deep networks of random weights multiply the rounding errors of float32 by a thousand.
    keras.backend.set_floatx("float64")
    rows = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for name in sys.argv[1:] or [name for name in networks() if name not in rows]:
        try:
            rows[name] = examine(name)
        except (TypeError, ValueError, NotImplementedError) as error:
            rows[name] = {"error": str(error)}
        sys.stdout.write(f"{name}: {rows[name]}\n")
        sys.stdout.flush()
        RECORD.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        PAGE.write_text(page(rows), encoding="utf-8")
        keras.backend.clear_session()
        gc.collect()


if __name__ == "__main__":
    main()
