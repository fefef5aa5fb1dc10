"""Which operators run: none of a branch that is never taken, those of functions that nodes call too."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, producer_of

BRANCHES = ("If", "StatelessIf")
LOOPS = ("While", "StatelessWhile")


def live_operators(graph: Graph) -> list[str]:
    """Returns the kinds of nodes that outputs may need, whatever the inputs are."""
    dead = _dead(graph)
    live = [node for node in graph.ancestors(graph.outputs).values() if node.name not in dead]
    return sorted({op for node in live for op in (node.op, *operators_inside(graph, node))})


def operators_inside(graph: Graph, node: Node) -> list[str]:
    """Returns the kind of each node of the functions that a node may call, and of those that these call."""
    todo = _called(graph, node)
    functions = {function.signature.name: function for function in graph.library.function} if todo else {}
    seen: set[str] = set()
    found: list[str] = []
    while todo:
        name = todo.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for each in functions[name].node_def:
            found.append(each.op)
            todo += [each.op, *_names(each.attr.values())]
    return found


def _called(graph: Graph, node: Node) -> list[str]:
    """Returns the functions that a node of a frozen graph calls: the one branch where what decides is known."""
    if node.op in BRANCHES:
        taken = _known(graph, node.inputs[0])
        if taken is not None:
            return _names([node.attributes["then_branch" if taken else "else_branch"]])
    return _names(node.attributes.values())


def _names(attributes: Iterable[Any]) -> list[str]:
    functions = [function for value in attributes for function in (value.func, *value.list.func)]
    return [function.name for function in functions if function.name]


def _known(graph: Graph, tensor: str) -> np.ndarray | None:
    """Returns the value of a tensor that no input decides, or None; a default that nobody can give counts."""
    value = graph.constant(tensor)
    node = graph.producer(tensor)
    while value is None and node.op in ("Identity", "PlaceholderWithDefault") and node.name not in graph.inputs:
        value, node = graph.constant(node.inputs[0]), graph.producer(node.inputs[0])
    return value


def _dead(graph: Graph) -> set[str]:
    """Returns the nodes in branches of TensorFlow 1 that are never taken: behind the other output of a Switch."""
    nodes: set[str] = set()
    tensors: set[str] = set()
    for node in graph.in_order():
        reads = [read in tensors or producer_of(read) in nodes for read in node.inputs]
        waits = [name in nodes for name in node.controls]
        if any(waits) or (all(reads) and bool(reads) if node.op == "Merge" else any(reads)):
            nodes.add(node.name)
        elif node.op == "Switch" and (taken := _known(graph, node.inputs[1])) is not None:
            tensors.add(f"{node.name}:{int(not taken)}")
    return nodes
