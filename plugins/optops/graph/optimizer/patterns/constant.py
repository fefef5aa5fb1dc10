"""What depends on constants alone becomes a constant."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph, is_pure
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.models.keras import tf

LARGEST = 1 << 24
"""Values of the largest constant that is made; what is larger is cheaper to compute than to store."""
NEVER = ("Const", "Placeholder", "NoOp", "Identity", "StopGradient")


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives what only constants lead to and something else reads."""
    known = {name for name, node in graph.nodes.items() if node.op == "Const" and not node.controls}
    computed = _computed(graph, known)
    wanted = [tensor for tensor in _frontier(graph, computed) if _worth_it(graph, tensor)]
    if not wanted:
        return
    for tensor, value in zip(wanted, _values(graph, wanted), strict=True):
        if value is not None:
            yield Place(tensor, (tensor.rpartition(":")[0],), _constant(tensor, value))


def _computed(graph: Graph, known: set[str]) -> set[str]:
    """Returns the nodes that constants alone lead to, in as many passes as they are deep."""
    computed: set[str] = set()
    constant = set(known)
    todo = list(graph.nodes.values())
    while True:
        reached = [
            node
            for node in todo
            if not node.controls
            and node.inputs
            and all(tensor.rpartition(":")[0] in constant for tensor in node.inputs)
            and is_pure(node)
        ]
        if not reached:
            return computed
        names = {node.name for node in reached}
        computed |= names
        constant |= names
        todo = [node for node in todo if node.name not in constant]


def _frontier(graph: Graph, computed: set[str]) -> Iterator[str]:
    read: dict[str, bool] = {}
    for node in graph.nodes.values():
        for tensor in node.inputs:
            if tensor.rpartition(":")[0] in computed:
                read[tensor] = read.get(tensor, False) or node.name not in computed
    for tensor in graph.outputs:
        read[tensor] = tensor.rpartition(":")[0] in computed
    for tensor, outside in read.items():
        if outside and graph.producer(tensor).op not in NEVER:
            yield tensor


def _worth_it(graph: Graph, tensor: str) -> bool:
    shape, dtype = graph.shape(tensor), graph.dtype(tensor)
    if dtype in (tf.variant, tf.resource, None):
        return False
    if shape is None or None in shape:
        return True
    return math.prod(size for size in shape if size is not None) <= LARGEST


def _values(graph: Graph, tensors: list[str]) -> list[np.ndarray | None]:
    part = Graph(graph.ancestors(tensors).values(), (), tensors, graph.library, graph.versions)
    with tf.Graph().as_default() as session_graph:
        tf.graph_util.import_graph_def(part.graph_def(), name="")
        with tf.compat.v1.Session(graph=session_graph) as session:
            return _run(session, tensors)


def _run(session: Any, tensors: list[str]) -> list[np.ndarray | None]:
    """Returns what tensors hold; None for one that fails, as it did before, or is of a branch that is never taken."""
    try:
        return list(session.run(tensors))
    except tf.errors.OpError:
        if len(tensors) == 1:
            return [None]
        half = len(tensors) // 2
        return _run(session, tensors[:half]) + _run(session, tensors[half:])


def _constant(tensor: str, value: np.ndarray) -> Callable[[Graph], str]:
    return lambda graph: graph.constant_node(f"{tensor.rpartition(':')[0]}/folded", np.asarray(value))


CONSTANT = Pattern("constant folding", find, reported=False)
