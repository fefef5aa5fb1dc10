"""Says what shape a lookup gives: TensorFlow knows no more of a table once its graph is imported without it."""

from collections.abc import Collection
from dataclasses import replace

from optops.graph.optimizer.graph import Graph
from optops.models.keras import tf

FINDS = ("LookupTableFind", "LookupTableFindV2")
"""Operators that look keys up."""


def note_lookup_shapes(graph: Graph) -> None:
    """Gives lookups whose default is one number or text the shape of their keys.

    Args:
        graph: Changed; TensorFlow reads the attribute as it imports a graph, and merges it with what it knows.
    """
    noted: set[str] = set()
    while shapes := _known(graph, noted):
        for name, shape in shapes.items():
            node, proto = graph.nodes[name], tf.TensorShape(shape).as_proto()
            known = tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(shape=[proto]))
            graph.nodes[name] = replace(node, attributes={**node.attributes, "_output_shapes": known})
        noted |= shapes.keys()
        graph.prune()  # so that shapes are inferred anew: keys may come from another lookup


def _known(graph: Graph, noted: Collection[str]) -> dict[str, tuple[int | None, ...]]:
    """Returns by name the shapes that lookups give, those that are noted not among them."""
    shapes = {}
    for node in graph.nodes.values():
        if node.op in FINDS and node.name not in noted:
            _, keys, default = node.inputs
            shape = graph.shape(keys)
            if shape is not None and graph.shape(default) == ():
                shapes[node.name] = shape
    return shapes
