"""Puts what a Python function computes into a graph: the function is traced, its nodes are added."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from optops.graph.optimizer.graph import Graph, producer_of
from optops.models.keras import tf


def splice(graph: Graph, name: str, function: Callable[..., Any], inputs: Sequence[str]) -> str:
    """Adds the nodes that a function of tensors makes, and returns the tensor that it returns.

    Args:
        graph: Changed.
        name: Of the new nodes, with a part of their own behind it.
        function: Of as many tensors as there are inputs; returns one.
        inputs: Tensors of the graph.
    """
    specs = [tf.TensorSpec(graph.shape(tensor), graph.dtype(tensor)) for tensor in inputs]
    traced = tf.function(lambda *tensors: tf.identity(function(*tensors)), autograph=False).get_concrete_function(
        *specs
    )
    made, result = traced.graph.as_graph_def(), traced.outputs[0].name
    prefix = _free_prefix(graph, f"optops/{name}", [node.name for node in made.node])
    outside = dict(zip((placeholder.name for placeholder in traced.inputs), inputs, strict=True))
    for node in Graph.of(made, (), ()).ancestors([result]).values():
        if f"{node.name}:0" in outside:
            continue
        own = prefix if node.name == producer_of(result) else f"{prefix}/{node.name}"
        read = tuple(outside.get(tensor) or f"{prefix}/{tensor}" for tensor in node.inputs)
        graph.add(replace(node, name=own, inputs=read, controls=()))
    if made.library.function:
        library = type(made.library)()
        library.CopyFrom(graph.library)
        library.function.extend(made.library.function)
        graph.library = library
    return f"{prefix}:0"


def _free_prefix(graph: Graph, name: str, nodes: Sequence[str]) -> str:
    """Returns a prefix that is free for nodes; of what was spliced before, tidying may have left a part."""
    candidates = (name if number == 0 else f"{name}_{number}" for number in count())
    return next(
        prefix
        for prefix in candidates
        if prefix not in graph.nodes and not any(f"{prefix}/{node}" in graph.nodes for node in nodes)
    )
