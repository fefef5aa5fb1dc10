"""Tensors that hold the same rows: a reshape that keeps the last axis moves no row and no value of a row."""

from collections.abc import Iterator

from optops.graph.optimizer.graph import Graph

KEEPS_VALUES = ("Identity", "StopGradient", "PreventGradient")
KEEPS_ORDER = ("Reshape", "ExpandDims", "Squeeze")


def rows_of(graph: Graph, tensor: str) -> str:
    """Returns the first tensor that holds the rows of this one."""
    *_, first = same_rows(graph, tensor)
    return first


def same_rows(graph: Graph, tensor: str) -> Iterator[str]:
    """Gives a tensor, and those before it that hold the same rows, the last first."""
    yield tensor
    while True:
        node = graph.producer(tensor)
        if node.op in KEEPS_VALUES or (node.op in KEEPS_ORDER and _keeps_last_axis(graph, node.inputs[0], tensor)):
            tensor = node.inputs[0]
            yield tensor
        else:
            return


def _keeps_last_axis(graph: Graph, source: str, tensor: str) -> bool:
    before, after = _width(graph, source), _width(graph, tensor)
    return before is not None and before == after


def _width(graph: Graph, tensor: str) -> int | None:
    """Returns the size of the last axis, from the weight of a product that reads it where nothing else says it."""
    shape = graph.shape(tensor)
    if shape and shape[-1] is not None:
        return shape[-1]
    for node in graph.consumers(tensor):
        if node.op == "MatMul" and node.inputs[0] == tensor and not node.attributes["transpose_a"].b:
            weight = graph.shape(node.inputs[1])
            if weight and len(weight) == 2:
                return weight[1 if node.attributes["transpose_b"].b else 0]
    return None
