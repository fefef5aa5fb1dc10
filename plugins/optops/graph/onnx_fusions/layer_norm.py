"""Layer normalisation over the last axis becomes one operator, however it is written.

Ba et al. 2016, https://arxiv.org/abs/1607.06450. By moments, step by step, or by Keras' batch normalisation of rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from optops.graph.onnx_fusions.by_value import BY_ELEMENT, Function, example_of, function_of, part, results_of
from optops.graph.onnx_fusions.rewriting import Rewriter, Unknown

BY_ROW = BY_ELEMENT | {"ReduceMean", "BatchNormalization", "ReduceSumSquare", "ReduceProd", "Reshape", "Shape", "Cast"}
BY_ROW |= {"Slice", "Gather", "Squeeze", "Unsqueeze", "Expand", "Concat"}
STEPS = 12
SMALL = 1e-6


@dataclass(frozen=True)
class _Norm:
    scale: np.ndarray
    offset: np.ndarray
    epsilon: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        return np.asarray(normed * self.scale + self.offset)


def fuse_layer_norm(graph: Rewriter) -> int:
    """Fuses all; returns how many."""
    fused = 0
    for mean in [node for node in graph.graph.node if node.op_type == "ReduceMean"]:
        source = _source(graph, mean)
        width = graph.shape(source)[-1] if graph.shape(source) else Unknown()
        if isinstance(width, Unknown) or width < 2:
            continue
        for result in results_of(graph, mean, BY_ROW, STEPS)[::-1]:
            norm = _norm(graph, source, result, width)
            if norm:
                vectors = [graph.constant(each.astype(np.float32)) for each in (norm.scale, norm.offset)]
                made = graph.add("LayerNormalization", source, *vectors, axis=-1, epsilon=norm.epsilon)
                graph.redirect(result, made)
                fused += 1
                break
    return fused


def _source(graph: Rewriter, mean: Any) -> str:
    """Returns what a mean is taken of, before it is reshaped to rows."""
    tensor = str(mean.input[0])
    reshape = graph.producer(tensor, "Reshape")
    return str(reshape.input[0]) if reshape is not None and graph.shape(tensor)[:1] == (1,) else tensor


def _norm(graph: Rewriter, source: str, result: str, width: int) -> _Norm | None:
    """Returns the norm that leads from one tensor to another, or None if something else does."""
    if graph.shape(result)[-1:] != (width,) or graph.producer(result).op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    nodes = part(graph, source, result, BY_ROW)
    if nodes is None:
        return None
    try:
        function = function_of(graph, nodes, source, result)
        example = example_of(graph, source, width)
        norm = _measured(function, example)
        fits = norm is not None and np.allclose(function(example), norm(example), 1e-6, 1e-6)
    except Exception:  # noqa: BLE001 - what can not be computed is no norm
        return None
    return norm if fits else None


def _measured(function: Function, example: np.ndarray) -> _Norm | None:
    """Returns the norm that a function is if it is one: its constants follow from rows of plus and minus one."""
    width = example.shape[-1]
    # With an odd width the mean is not 0: what is left of each element is known all the same.
    row = np.where(np.arange(width) % 2, 1.0, -1.0)
    rows = np.broadcast_to(row, example.shape)
    centred, variance = row - row.mean(), row.var()
    first, second, small = (_row(function(rows * factor)) for factor in (1.0, -1.0, SMALL))
    offset, slope = (first + second) / 2, (first - second) / 2
    if not slope.any():
        return None
    # slope = scale * centred / sqrt(variance + epsilon), and the same for a row whose variance is near nothing.
    ratio = np.median((small - offset)[slope != 0] / slope[slope != 0])
    if not SMALL < ratio < 1:
        return None
    epsilon = variance * SMALL**2 * (1 - ratio**2) / (ratio**2 - SMALL**2)
    return _Norm(slope * np.sqrt(variance + epsilon) / centred, offset, float(epsilon))


def _row(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows.reshape(-1, rows.shape[-1])[0])
