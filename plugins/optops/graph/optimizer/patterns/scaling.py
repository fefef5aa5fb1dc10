"""What numbers do to scores between their product and a softmax, and which way the product is."""

from optops.graph.optimizer.graph import Graph, Node

PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")
SUMS = ("AddV2", "Add", "Sub")
ONE_WAY = ("Sub", "RealDiv", "Transpose")
"""Of which the first input alone may be scores."""


def scaled(graph: Graph, node: Node) -> tuple[str, float] | None:
    """Returns what a node multiplies by a constant number, and the number; None if it does something else."""
    if node.op in ("Mul", "RealDiv"):
        for read, other in (node.inputs, node.inputs[::-1])[: 2 if node.op == "Mul" else 1]:
            value = graph.constant(other)
            if value is not None and value.size == 1:
                factor = float(value.reshape(()))
                return read, factor if node.op == "Mul" else 1.0 / factor
    return None


def shifted(graph: Graph, node: Node) -> str | None:
    """Returns what a node adds one constant number to, which no softmax notices; None if it does something else."""
    if node.op in SUMS:
        for read, other in (node.inputs, node.inputs[::-1])[: 1 if node.op == "Sub" else 2]:
            value = graph.constant(other)
            if value is not None and value.size == 1:
                return read
    return None


def scores_first(graph: Graph, node: Node) -> tuple[str, str] | None:
    """Returns the scores that a node adds something to, and that; None if neither comes from a product."""
    for one, other in (node.inputs, node.inputs[::-1])[: 1 if node.op == "Sub" else 2]:
        if _leads_to_product(graph, one):
            return one, other
    return None


def _leads_to_product(graph: Graph, tensor: str) -> bool:
    node = graph.producer(tensor)
    while node.op in ("Mul", "Identity", *SUMS, *ONE_WAY):
        known = len(node.inputs) > 1 and node.op not in ONE_WAY and graph.constant(node.inputs[0]) is not None
        node = graph.producer(node.inputs[1 if known else 0])
    return node.op in PRODUCTS
