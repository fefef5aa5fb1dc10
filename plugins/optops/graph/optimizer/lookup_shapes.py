"""Says what shape a lookup gives: TensorFlow knows no more of a table once its graph is imported without it."""

from dataclasses import replace

from optops.graph.optimizer.graph import Graph
from optops.models.keras import tf

LOOKUPS = ("LookupTableFind", "LookupTableFindV2")


def note_lookup_shapes(graph: Graph) -> None:
    """Gives lookups whose default is one number or text the shape of their keys.

    Args:
        graph: Changed; TensorFlow reads the attribute as it imports a graph, and merges it with what it knows.
    """
    for node in [node for node in graph.nodes.values() if node.op in LOOKUPS]:
        _, keys, default = node.inputs
        shape = graph.shape(keys)
        if shape is not None and graph.shape(default) == ():
            proto = tf.TensorShape(shape).as_proto()
            known = tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(shape=[proto]))
            graph.nodes[node.name] = replace(node, attributes={**node.attributes, "_output_shapes": known})
            graph.prune()  # so that shapes are inferred anew: the next lookup's keys may come from this one
