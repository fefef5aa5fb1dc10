"""A layer norm becomes one operator of the library, with the residual sum before it where nothing else reads that."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.patterns.layer_norm import Norm, norm_at
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice

NAME = "residual norm"


@dataclass(frozen=True)
class Summands:
    """The two tensors whose sum is normalised; `residual` is None where the sum stays, or there is none."""

    x: str
    residual: str | None
    nodes: tuple[str, ...]


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives layer norms over the last axis."""
    for name, node in graph.nodes.items():
        if node.controls:
            continue
        norm = norm_at(graph, f"{name}:0", context)
        if norm is None:
            continue
        if not np.float32(norm.epsilon) > 0:
            context.left_alone(NAME, name, f"epsilon is {norm.epsilon:g}; the operator takes what is above 0")
            continue
        summands = _summands(graph, norm)
        weights = f"width {norm.scale.size}, {'alone' if summands.residual is None else 'with the sum before'}"
        yield Place(norm.output, (*norm.nodes, *summands.nodes), _rewrite(norm, summands), weights)


def _summands(graph: Graph, norm: Norm) -> Summands:
    node, inside = graph.producer(norm.source), set(norm.nodes)
    alone = norm.source not in graph.outputs and all(
        reader.name in inside or reader.op == "Shape" for reader in graph.consumers(norm.source)
    )
    shapes = [graph.shape(read) for read in node.inputs]
    # A sum of tensors of other shapes is no residual: a bias, or positions.
    if node.op in ("AddV2", "Add") and alone and shapes[0] == shapes[1] and shapes[0] is not None:
        return Summands(node.inputs[0], node.inputs[1], (node.name,))
    return Summands(norm.source, None, ())


def _rewrite(norm: Norm, summands: Summands) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        from optops.kernels.tensorflow import residual_norm

        read = [tensor for tensor in (summands.x, summands.residual) if tensor is not None]

        def normalise(x: Any, residual: Any = None) -> Any:
            return residual_norm(x, residual, norm.scale, norm.offset, norm.epsilon)

        return splice(graph, "norm", normalise, read)

    return rewrite


RESIDUAL_NORM = Pattern(NAME, find, kernels=True)
