"""Operators that hand on what they are given: Identity, Cast to the same type, Pad by nothing."""

from collections.abc import Callable, Iterator

import numpy as np

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.rewriting import Context, Pattern, Place

SAME = ("Identity", "StopGradient", "PreventGradient", "EnsureShape", "Snapshot")


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives what changes nothing; nodes with control inputs stay, for they wait for something."""
    for node in graph.nodes.values():
        if node.op == "IdentityN" and not node.controls:  # around what has a gradient of its own
            yield from _handed_on(graph, node)
        if node.controls or not node.inputs or not _changes_nothing(graph, node):
            continue
        tensor = f"{node.name}:0"
        if tensor in graph.outputs or graph.consumers(tensor):
            yield Place(tensor, (node.name,), _handing_on(node.name))


def _handed_on(graph: Graph, node: Node) -> Iterator[Place]:
    for index in range(len(node.inputs)):
        tensor = f"{node.name}:{index}"
        if tensor in graph.outputs or graph.consumers(tensor):
            yield Place(tensor, (node.name,), _handing_on(node.name, index))


def _handing_on(name: str, index: int = 0) -> Callable[[Graph], str]:
    return lambda graph: graph.nodes[name].inputs[index]


def _changes_nothing(graph: Graph, node: Node) -> bool:
    source = node.inputs[0]
    if node.op in SAME:
        # What says more of a shape than is known without it is a check.
        return node.op != "EnsureShape" or graph.shape(source) == graph.shape(f"{node.name}:0")
    if node.op == "Cast":
        return bool(graph.dtype(source) == graph.dtype(f"{node.name}:0"))
    if node.op in ("Pad", "PadV2", "MirrorPad", "Transpose"):
        argument = graph.constant(node.inputs[1])
        same = 0 if argument is None or "Pad" in node.op else np.arange(argument.size)
        return argument is not None and bool(np.all(argument == same))
    if node.op == "Reshape":
        return _is_static(graph.shape(source)) and graph.shape(source) == graph.shape(f"{node.name}:0")
    return node.op in ("Mul", "RealDiv", "AddV2", "Add", "Sub") and _is_neutral(graph, node)


def _is_static(shape: tuple[int | None, ...] | None) -> bool:
    return shape is not None and None not in shape


def _is_neutral(graph: Graph, node: Node) -> bool:
    """Returns whether the second input is a scalar that changes nothing: 1 for products, 0 for sums of integers."""
    value = graph.constant(node.inputs[1])
    if value is None or value.size != 1 or value.ndim > 0 or value.dtype.kind not in "fiu":
        return False
    if node.op in ("Mul", "RealDiv"):
        return bool(value == 1)
    return value.dtype.kind in "iu" and bool(value == 0)


IDENTITY = Pattern("identity", find, reported=False)
