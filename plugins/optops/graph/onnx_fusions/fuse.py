"""Looks for all patterns in a graph and keeps what computes the same."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from optops.graph.lowering import LoweringError
from optops.graph.onnx_fusions.attention import fuse_attention
from optops.graph.onnx_fusions.gelu import fuse_gelu
from optops.graph.onnx_fusions.layer_norm import fuse_layer_norm
from optops.graph.onnx_fusions.products import fuse_einsums, fuse_rows
from optops.graph.onnx_fusions.rewriting import Rewriter
from optops.graph.onnx_fusions.tidying import tidy
from optops.graph.optimizer.parity import Difference, compare
from optops.runtimes.onnxruntime import MODEL, open_session

PATTERNS: dict[str, Callable[[Rewriter], int]] = {
    "einsums as products": fuse_einsums,
    "products without rows": fuse_rows,
    "layer norms": fuse_layer_norm,
    "GELU": fuse_gelu,
    "attention": fuse_attention,
    "reshapes and transposes left out": tidy,
    "products without rows behind attention": fuse_rows,
}
FUSED: Mapping[str, tuple[str, ...]] = {
    "attention_fused": ("Attention", "MultiHeadAttention"),
    "layer_norms_fused": ("LayerNormalization",),
    "gelu_fused": ("Gelu", "FastGelu", "BiasGelu"),
}
"""Names of counts, and the operators of ONNX Runtime that they count."""


@dataclass(frozen=True)
class Fused:
    """What came of fusing.

    Attributes:
        model: The ONNX model.
        notes: What was fused and what was rolled back, one line each.
    """

    model: Any
    notes: list[str]


def fuse(model: Any, samples: Sequence[Mapping[str, np.ndarray]]) -> Fused:
    """Returns a model that computes the same with fused operators; batch and length stay as dynamic as they were.

    Args:
        model: From `convert`; left as it is.
        samples: Inputs by name on which results are compared, of different batches and lengths; without any, nothing
            is fused.

    Raises:
        LoweringError: If ONNX Runtime can not execute the model.
    """
    if not samples:
        return Fused(model, ["nothing was fused: there are no inputs on which to compare"])
    try:
        wanted = _results(model, samples)
    except Exception as error:
        raise LoweringError(f"ONNX Runtime can not execute this graph: {error}") from error
    everything = _rewritten(model, PATTERNS)
    if _difference(everything.model, samples, wanted).fits:
        return everything
    notes: list[str] = []
    for name, pattern in PATTERNS.items():
        attempt = _rewritten(model, {name: pattern})
        difference = _difference(attempt.model, samples, wanted)
        if difference.fits:
            model, notes = attempt.model, notes + attempt.notes
        elif attempt.notes:
            notes.append(f"rolled back {name}: {difference.reason}")
    return Fused(model, notes)


def _rewritten(model: Any, patterns: Mapping[str, Callable[[Rewriter], int]]) -> Fused:
    copy = type(model).FromString(model.SerializeToString())
    graph, notes = Rewriter(copy), []
    for name, pattern in patterns.items():
        found = pattern(graph)
        if found:
            notes.append(f"{found} {name}")
            graph.prune()
    return Fused(copy, notes)


def _difference(model: Any, samples: Sequence[Mapping[str, np.ndarray]], wanted: Any) -> Difference:
    try:
        return compare(wanted, _results(model, samples), "fp32")
    except Exception as error:  # noqa: BLE001 - a graph that does not run is wrong, whatever it raises
        return Difference(float("inf"), "", False, f"{type(error).__name__}: {str(error)[:300]}")


def _results(model: Any, samples: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    import onnx

    with TemporaryDirectory(prefix="optops-fused-") as folder:
        onnx.save(model, str(Path(folder) / MODEL))
        session = open_session(Path(folder) / MODEL, threads=1)
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(None, dict(sample)), strict=True)) for sample in samples]


def count_fused(graph: Any) -> dict[str, int]:
    """Returns how many fused operators a graph has, by the names in `FUSED`."""
    operators = Counter(node.op_type for node in graph.node)
    return {name: sum(operators[each] for each in kinds) for name, kinds in FUSED.items()}
