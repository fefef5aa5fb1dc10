"""GELU and SiLU, with the bias before them, become one operator of the library.

Products of TensorFlow take a ReLU along, and a GELU by erf is as fast there; both are left as they are. GELU by erfc or
tanh, and SiLU, are passes over memory that one operator makes one of.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, text
from optops.graph.optimizer.patterns.activation import BY_VALUE, MOST_NODES, activation_at
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

NAME = "bias and activation"
CURVES = ("Erf", "Erfc", "Tanh", "Sigmoid", "Exp")
"""One of them is in every way to write a GELU or a SiLU."""


@dataclass(frozen=True)
class BiasedActivation:
    """`activation(x + bias)`.

    Attributes:
        kind: As the operator library calls it.
        source: x, float32 [..., width].
        bias: float32 [width], or None.
        result: What it makes.
        nodes: That make it.
    """

    kind: str
    source: str
    bias: np.ndarray | None
    result: str
    nodes: tuple[str, ...]


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives activations that the library computes faster."""
    for each in biased_activations(graph, context):
        if any(graph.nodes[name].op == "Erf" for name in each.nodes):
            context.left_alone(NAME, each.result, "a GELU by erf is as fast in TensorFlow")
            continue
        shape = graph.shape(each.source)
        width = shape[-1] if shape else None
        if width is None:
            context.left_alone(NAME, each.result, f"the last axis of {each.source} is not known")
            continue
        yield Place(each.result, each.nodes, _rewrite(each, width), f"{each.kind}, width {width}")


def biased_activations(graph: Graph, context: Context) -> list[BiasedActivation]:
    """Returns the GELUs and SiLUs of a graph; what looks like one is reported."""
    found = []
    for name, node in graph.nodes.items():
        if node.op != "Mul" or node.controls:
            continue
        curve = _curve_in(graph, name)
        if curve is None:
            continue
        activation = activation_at(graph, f"{name}:0")
        if activation is not None:
            source, bias, before = _bias(graph, activation.source, activation.nodes)
            found.append(BiasedActivation(activation.kind, source, bias, f"{name}:0", (*activation.nodes, *before)))
        elif _scales_itself(graph, name):
            context.left_alone(NAME, name, f"what {curve} is in is no activation of the library")
    return found


def _curve_in(graph: Graph, name: str) -> str | None:
    """Returns an operator of CURVES that a value of this node goes through, from few nodes before."""
    todo: list[str] = [name]
    seen: set[str] = set()
    while todo and len(seen) < MOST_NODES:
        node = graph.nodes[todo.pop(0)]
        if node.name in seen or node.op not in BY_VALUE:
            continue
        if node.op in CURVES:
            return node.op
        seen.add(node.name)
        todo += [graph.producer(read).name for read in node.inputs]
    return None


def _scales_itself(graph: Graph, name: str) -> bool:
    """Returns whether a node multiplies a tensor by what a curve makes of the same: as GELU and SiLU do."""
    one, two = graph.nodes[name].inputs
    return _unscaled(graph, one) in _sources(graph, two) or _unscaled(graph, two) in _sources(graph, one)


def _unscaled(graph: Graph, tensor: str) -> str:
    """Returns what a tensor is a multiple of."""
    node = graph.producer(tensor)
    if node.op == "Mul":
        for read, other in (node.inputs, node.inputs[::-1]):
            if graph.constant(other) is not None:
                return read
    return tensor


def _sources(graph: Graph, tensor: str) -> set[str]:
    todo: list[str] = [tensor]
    found: set[str] = set()
    while todo and len(found) < 2 * MOST_NODES:
        node = graph.producer(todo.pop())
        if node.op in BY_VALUE:
            found |= set(node.inputs)
            todo += node.inputs
    return found


def _bias(graph: Graph, tensor: str, inside: tuple[str, ...]) -> tuple[str, np.ndarray | None, tuple[str, ...]]:
    """Returns what a bias is added to, the bias, and the node that adds it; the tensor itself if there is none."""
    node = graph.producer(tensor)
    alone = tensor not in graph.outputs and all(reader.name in inside for reader in graph.consumers(tensor))
    if node.op not in ("BiasAdd", "AddV2", "Add") or node.controls or not alone or not channels_last(graph, tensor):
        return tensor, None, ()
    for read, other in (node.inputs, node.inputs[::-1]):
        value, shape = graph.constant(other), graph.shape(read)
        if value is not None and shape and value.shape == shape[-1:] and graph.shape(tensor) == shape:
            return read, value, (node.name,)
    return tensor, None, ()


def channels_last(graph: Graph, tensor: str) -> bool:
    """Returns whether what makes a tensor has its channels in the last axis, as far as it says."""
    node = graph.producer(tensor)
    return "data_format" not in node.attributes or text(node, "data_format").endswith("C")


def _rewrite(found: BiasedActivation, width: int) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        from optops.kernels.tensorflow import bias_activation

        bias = np.zeros(width, np.float32) if found.bias is None else found.bias
        return splice(
            graph,
            "activation",
            lambda x: bias_activation(x, tf.constant(bias), found.kind),  # type: ignore[arg-type]
            [found.source],
        )

    return rewrite


BIAS_ACTIVATION = Pattern(NAME, find, kernels=True)
