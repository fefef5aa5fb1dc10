"""A tensor times a number."""

from optops.graph.optimizer.graph import Graph, Node


def scaled(graph: Graph, node: Node) -> tuple[str, float] | None:
    """Returns what a node multiplies by a constant number, and the number; None if it does something else."""
    if node.op in ("Mul", "RealDiv"):
        for read, other in (node.inputs, node.inputs[::-1])[: 2 if node.op == "Mul" else 1]:
            value = graph.constant(other)
            if value is not None and value.size == 1:
                factor = float(value.reshape(()))
                return read, factor if node.op == "Mul" else 1.0 / factor
    return None
