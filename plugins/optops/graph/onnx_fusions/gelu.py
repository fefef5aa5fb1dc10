"""GELU, exact or by tanh, becomes one operator of ONNX Runtime, however it is written.

Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415.
"""

import math
from collections.abc import Callable

import numpy as np

from optops.graph.onnx_fusions.by_value import BY_ELEMENT, function_of, part, results_of
from optops.graph.onnx_fusions.rewriting import Rewriter
from optops.graph.onnx_nodes import CONTRIB

GRID = np.concatenate([np.linspace(-12, 12, 97), np.linspace(-1e-2, 1e-2, 9)])
TOLERANCE = 1e-6
"""Constants of these forms are rounded to float32, or to six digits."""
STEPS = 4
DEPTH = 8
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "FastGelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def fuse_gelu(graph: Rewriter) -> int:
    """Fuses all; returns how many."""
    fused = 0
    for node in [node for node in graph.graph.node if node.op_type in ("Erf", "Tanh")]:
        source = _source(graph, node.input[0])
        for result in results_of(graph, node, BY_ELEMENT, STEPS)[::-1]:
            kind = _kind(graph, source, result)
            if kind:
                graph.redirect(result, graph.add(kind, source, domain=CONTRIB, shape=graph.shape(source)))
                fused += 1
                break
    return fused


def _source(graph: Rewriter, tensor: str, depth: int = DEPTH) -> str:
    """Returns what a tensor is computed of, element by element, with numbers alone."""
    node = graph.producer(tensor, *BY_ELEMENT)
    if node is None or not depth:
        return tensor
    read = [name for name in node.input if graph.scalar(name) is None]
    # A sum of x and its cube comes from x.
    sources = {_source(graph, name, depth - 1) for name in read}
    return sources.pop() if len(sources) == 1 and not set(read) & set(graph.constants) else tensor


def _kind(graph: Rewriter, source: str, result: str) -> str | None:
    nodes = part(graph, source, result, BY_ELEMENT)
    read = [name for node in nodes or () for name in node.input]
    if nodes is None or any(graph.constants[name].size != 1 for name in read if name in graph.constants):
        return None
    found = function_of(graph, nodes, source, result)(GRID)
    return next((kind for kind, function in KINDS.items() if np.allclose(found, function(GRID), 1e-5, TOLERANCE)), None)
