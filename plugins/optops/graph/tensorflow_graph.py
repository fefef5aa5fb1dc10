"""Facts about TensorFlow graphs."""

from typing import Any


def count_nodes(graph: Any) -> int:
    """Returns the number of nodes in a GraphDef, those of its function library included."""
    return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)
