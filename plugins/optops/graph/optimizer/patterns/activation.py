"""Activations in whatever way they are written: known by what they compute, not by how.

GELU (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415) may be the exact one or the approximation by tanh, its
cube a power or products. A part of a graph that computes each value from one value of one tensor is run on a
grid of numbers and compared with each activation of the operator library.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node
from optops.models.keras import tf

BY_VALUE = frozenset(
    [
        "Mul",
        "AddV2",
        "Add",
        "Sub",
        "RealDiv",
        "Div",
        "Erf",
        "Erfc",
        "Tanh",
        "Pow",
        "Square",
        "Neg",
        "Sigmoid",
        "Exp",
        "Maximum",
        "Relu",
        "Identity",
        "Cube",
        "Softplus",
        "Elu",
        "Reciprocal",
        "LeakyRelu",
        "Rsqrt",
        "Sqrt",
    ]
)
MOST_NODES = 16
GRID = np.concatenate([np.linspace(-12, 12, 97), np.linspace(-1e-2, 1e-2, 9)]).astype(np.float32)
TOLERANCE = 2e-6
_erf = np.vectorize(math.erf)
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@dataclass(frozen=True)
class Activation:
    """A function of each value.

    Attributes:
        kind: As the operator library calls it.
        source: What it is taken of.
        nodes: That make it.
    """

    kind: str
    source: str
    nodes: tuple[str, ...]


def activation_at(graph: Graph, tensor: str) -> Activation | None:
    """Returns the activation that a tensor is the result of, or None."""
    inside: dict[str, Node] = {}
    frontier = [tensor]
    while frontier and len(inside) < MOST_NODES:
        # What is computed last comes first, so that all ways into the part meet in one tensor.
        deepest = max(frontier, key=lambda each: _depth(graph, each, frontier))
        node = graph.producer(deepest)
        if node.op not in BY_VALUE or node.controls:
            return None
        frontier.remove(deepest)
        inside[node.name] = node
        for read in node.inputs:
            value = graph.constant(read)
            if value is not None and value.ndim == 0:
                inside.setdefault(graph.producer(read).name, graph.producer(read))
            elif value is not None:
                return None
            elif read not in frontier:
                frontier.append(read)
        if len(frontier) == 1 and (kind := _kind(graph, inside, frontier[0], tensor)):
            nodes = tuple(name for name, each in inside.items() if each.op not in ("Const", "Identity"))
            return Activation(kind, frontier[0], nodes)
    return None


def _depth(graph: Graph, tensor: str, others: list[str]) -> int:
    """Returns 1 if another tensor of the frontier leads to this one within a few steps, else 0."""
    goals, todo, steps = {each for each in others if each != tensor}, [tensor], 0
    while todo and steps < 4 * MOST_NODES:
        steps += 1
        node = graph.producer(todo.pop())
        if node.op not in BY_VALUE:
            continue
        if goals & set(node.inputs):
            return 1
        todo += node.inputs
    return 0


def _kind(graph: Graph, inside: dict[str, Node], source: str, tensor: str) -> str | None:
    if graph.dtype(source) != tf.float32:
        return None
    constants = {}
    for node in inside.values():
        for read in node.inputs:
            if (value := graph.constant(read)) is not None:
                constants[read] = value
    with tf.Graph().as_default() as part_graph:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        feeds = {source: x, **{read: tf.constant(value) for read, value in constants.items()}}
        nodes = [node for node in inside.values() if node.op != "Const"]
        part = Graph(nodes, (), (), graph.library, graph.versions)
        (y,) = tf.graph_util.import_graph_def(part.graph_def(), feeds, [tensor], name="part")
        with tf.compat.v1.Session(graph=part_graph) as session:
            found = session.run(y, {x: GRID})
    for kind, function in ACTIVATIONS.items():
        wanted = function(GRID.astype(np.float64))
        if np.allclose(found, wanted, rtol=1e-5, atol=TOLERANCE):
            return kind
    return None
