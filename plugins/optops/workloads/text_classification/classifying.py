"""Texts through an executable: tokenised, batched by length, classified, put back in order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optops.models.token_ids import pad_rows
from optops.workloads.base import Report
from optops.workloads.text_classification.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from optops.runtimes.base import Executable

BATCH = 64
CLASSES_FILE = "classes.json"


def save_classes(classes: dict[str, str], assets: Path) -> None:
    """Writes the labels, in the order of the model's outputs, and their names."""
    (assets / CLASSES_FILE).write_text(json.dumps(classes, indent=1, ensure_ascii=False), encoding="utf-8")


def load_classes(assets: Path) -> dict[str, str]:
    """Returns names by label, in the order of the model's outputs."""
    classes: dict[str, str] = json.loads((assets / CLASSES_FILE).read_text(encoding="utf-8"))
    return classes


def classify(executable: "Executable", texts: Sequence[str], assets: Path, report: Report | None = None) -> np.ndarray:
    """Returns the probability of each class, float32 [texts, classes]; texts that are too long are cut.

    Args:
        executable: `ids` int32 [batch, length] in, `probabilities` float32 [batch, classes] out.
        texts: Any text.
        assets: Holds the tokenizer.
        report: Gets lines of progress.
    """
    rows = load_tokenizer(assets).encode(texts)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found = np.zeros((len(rows), len(load_classes(assets))), np.float32)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        found[batch] = executable({"ids": pad_rows([rows[index] for index in batch])})["probabilities"]
        if report:
            report(f"{start + len(batch)} of {len(order)} texts classified")
    return found
