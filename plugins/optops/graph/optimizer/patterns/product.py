"""Products with a constant weight in every form: MatMul, BatchMatMul, Einsum and Tensordot, with a bias or without."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, text
from optops.graph.optimizer.rows import rows_of, same_rows


@dataclass(frozen=True)
class Product:
    """`x W + b` for each row.

    Attributes:
        source: Tensor that holds the inputs; where its last axes are those of one row, side by side.
        kernel: float32 [inputs, outputs].
        bias: float32 [outputs]; zero where there is none.
        output: Tensor that holds the outputs, rows as in the source.
        nodes: That make it.
        biased: Whether there is a bias.
    """

    source: str
    kernel: np.ndarray
    bias: np.ndarray
    output: str
    nodes: tuple[str, ...]
    biased: bool = False


def product_at(graph: Graph, tensor: str) -> Product | None:
    """Returns the product that makes the rows of a tensor, or None."""
    return next(products_at(graph, tensor), None)


def products_at(graph: Graph, tensor: str) -> Iterator[Product]:
    """Gives the product with its bias, or without one."""
    tensors = list(same_rows(graph, tensor))
    node = graph.producer(tensors[-1])
    skipped = tuple(graph.producer(each).name for each in tensors[:-1])
    if node.op in ("BiasAdd", "AddV2", "Add"):
        for read, other in (node.inputs, node.inputs[::-1]):
            bias = graph.constant(other)
            found = None if bias is None else _bare(graph, read)
            if found and bias is not None and _fits(graph, read, bias, found):
                nodes = (*skipped, node.name, *found.nodes)
                # Where a bias has axes of its own, the rows end before them.
                yield replace(found, bias=bias.reshape(-1), output=tensors[-1], nodes=nodes, biased=True)
                return
    found = _bare(graph, tensors[-1])
    if found:
        yield replace(found, nodes=(*skipped, *found.nodes))


def _fits(graph: Graph, read: str, bias: np.ndarray, found: Product) -> bool:
    # A product with a matrix has its outputs in the last axis, also where its shape is not known.
    shape = (found.bias.size,) if graph.producer(found.output).op != "Einsum" else graph.shape(read)
    sizes = bias.shape[next((i for i, size in enumerate(bias.shape) if size != 1), bias.ndim) :]
    return (
        bias.dtype == np.float32
        and bias.size == found.bias.size
        and shape is not None
        and shape[len(shape) - len(sizes) :] == sizes
    )


def _bare(graph: Graph, tensor: str) -> Product | None:
    tensor = rows_of(graph, tensor)
    node = graph.producer(tensor)
    if node.op == "MatMul" and not node.attributes["transpose_a"].b:
        return _matrix(graph, node, node.attributes["transpose_b"].b)
    if node.op in ("BatchMatMulV2", "BatchMatMul", "BatchMatMulV3") and not node.attributes["adj_x"].b:
        return _matrix(graph, node, node.attributes["adj_y"].b)
    if node.op == "Einsum" and len(node.inputs) == 2:
        return _einsum(graph, node)
    return None


def _matrix(graph: Graph, node: Node, transposed: bool) -> Product | None:
    kernel = graph.constant(node.inputs[1])
    if kernel is None or kernel.ndim != 2 or kernel.dtype != np.float32:
        return None
    kernel = kernel.T if transposed else kernel
    return Product(node.inputs[0], kernel, np.zeros(kernel.shape[1], np.float32), f"{node.name}:0", (node.name,))


def _einsum(graph: Graph, node: Node) -> Product | None:
    """Returns the product of an einsum whose weight is summed over the last axes of x, in any order of its axes."""
    labels, result = einsum_labels(graph, node)
    if len(set(result)) < len(result):
        return None
    for data, weight in ((0, 1), (1, 0)):
        kernel = graph.constant(node.inputs[weight])
        if kernel is None or kernel.dtype != np.float32:
            continue
        x, w = labels[data], labels[weight]
        summed = [label for label in x if label in w]
        made = [label for label in w if label not in x]
        kept = [label for label in x if label not in w]
        if x != "".join(kept + summed) or result != "".join(kept + _order(made, result)) or not summed or not made:
            continue
        made = _order(made, result)
        order = [w.index(label) for label in summed + made]
        inputs_count = int(np.prod([kernel.shape[w.index(label)] for label in summed]))
        matrix = kernel.transpose(order).reshape(inputs_count, -1)
        bias = np.zeros(matrix.shape[1], np.float32)
        return Product(node.inputs[data], matrix, bias, f"{node.name}:0", (node.name,))
    return None


def einsum_labels(graph: Graph, node: Node) -> tuple[list[str], str]:
    """Returns the labels of each input of an einsum and of its result, with digits for what `...` stands for."""
    inputs, _, result = text(node, "equation").replace(" ", "").partition("->")
    open_axes, labels = "", []
    for each, tensor in zip(inputs.split(","), node.inputs, strict=True):
        count = len(graph.shape(tensor) or ()) - len(each.replace("...", ""))
        axes = "".join(map(str, reversed(range(max(count, 0)))))  # the last axes of all inputs belong together
        labels.append(each.replace("...", axes))
        open_axes = max(open_axes, axes if "..." in each else "", key=len)
    return labels, result.replace("...", open_axes)


def _order(made: list[str], result: str) -> list[str]:
    return [label for label in result if label in made]
