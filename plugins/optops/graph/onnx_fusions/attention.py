"""Attention becomes ONNX Runtime's MultiHeadAttention: two products around a softmax, as MatMul or einsum.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Axes are called b (batch), s (queries), t (keys), h (heads), d.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from optops.graph.onnx_fusions.rewriting import CONTRIB, Rewriter, attribute

DEPTH = 6
VALUE = "value"
"""Name of the axis of what is mixed, beside those of the scores."""


@dataclass(frozen=True)
class _Product:
    """Two tensors, the names of their axes, and those of the result."""

    left: str
    right: str
    left_axes: str
    right_axes: str
    axes: str


@dataclass(frozen=True)
class _Scores:
    """What a softmax is taken of: a product with a factor, and what is added to it."""

    product: _Product
    scale: float = 1.0
    biases: list[str] = field(default_factory=list)


def fuse_attention(graph: Rewriter) -> int:
    """Fuses all; returns how many."""
    fused = 0
    for softmax in [node for node in graph.graph.node if node.op_type == "Softmax"]:
        rank = len(graph.shape(softmax.output[0]))
        weights = softmax.output[0]
        if rank != 4 or attribute(softmax, "axis", -1) not in (-1, 3) or not graph.used_once(weights):
            continue
        scores = _scores(graph, softmax.input[0], DEPTH)
        (mixing,) = graph.readers(weights)
        mixed = _product(graph, mixing)
        if scores is not None and mixed is not None and _fuse(graph, scores, mixed, weights, mixing.output[0]):
            fused += 1
    return fused


def _fuse(graph: Rewriter, scores: _Scores, mixed: _Product, weights: str, result: str) -> bool:
    """Replaces attention if its axes are those of one; says whether."""
    batch, heads, length, keys = list(scores.product.axes)
    given = {mixed.left: mixed.left_axes, mixed.right: mixed.right_axes}
    renamed = dict(zip(given.pop(weights), scores.product.axes, strict=True))
    renamed |= {axis: VALUE for axis in mixed.axes if axis not in renamed}
    order, axes = [batch, length, heads, VALUE], [renamed[axis] for axis in mixed.axes]
    if len(given) != 1 or sorted(axes) != sorted(order):
        return False
    ((values, values_axes),) = given.items()
    read = [
        _heads(graph, scores.product, [batch, length, heads]),
        _heads(graph, scores.product, [batch, keys, heads]),
        _placed(graph, values, [renamed.get(axis, "") for axis in values_axes], [batch, keys, heads, VALUE]),
    ]
    found = [each for each in read if each is not None]
    sizes = [[size or 0 for size in graph.shape(each)[2:]] for each in found]
    if len(found) < 3 or not all(map(all, sizes)) or sizes[0] != sizes[1] or sizes[0][0] != sizes[2][0]:
        return False
    found[0], factor = _without_factor(graph, found[0])
    bias = _bias(graph, scores.biases, found[0])
    made = graph.add(
        "MultiHeadAttention",
        *[_merged(graph, each) for each in found],
        *(["", "", bias] if bias else []),
        domain=CONTRIB,
        shape=(*graph.shape(found[0])[:2], sizes[2][0] * sizes[2][1]),
        num_heads=sizes[0][0],
        scale=scores.scale * factor,
    )
    split = graph.reshape(made, [0, 0, *sizes[2]])
    graph.redirect(result, graph.transpose(split, [order.index(axis) for axis in axes]))
    return True


def _scores(graph: Rewriter, tensor: str, depth: int) -> _Scores | None:
    """Returns how scores are made: a product of queries and keys, then factors, then masks and other biases."""
    node = graph.producer(tensor, "MatMul", "Einsum", "Add", "Mul", "Div")
    if node is None or not depth or not graph.used_once(tensor):
        return None
    if node.op_type in ("MatMul", "Einsum"):
        product = _product(graph, node)
        if product is None:
            return None
        (left, one), (right, other) = (_without_factor(graph, each) for each in (product.left, product.right))
        return _Scores(replace(product, left=left, right=right), one * other)
    for read, added in (node.input, node.input[::-1]):
        inner, factor = _scores(graph, read, depth - 1), graph.scalar(added)
        if inner is None:
            continue
        if node.op_type == "Add":
            return _Scores(inner.product, inner.scale, [*inner.biases, added])
        if factor and not inner.biases and (node.op_type == "Mul" or read == node.input[0]):
            return _Scores(inner.product, inner.scale * (factor if node.op_type == "Mul" else 1 / factor))
    return None


def _product(graph: Rewriter, node: Any) -> _Product | None:
    """Returns a product of two tensors of four axes, none of them a constant."""
    if node.op_type not in ("MatMul", "Einsum") or len(node.input) != 2 or set(node.input) & set(graph.constants):
        return None
    if any(len(graph.shape(name)) != 4 for name in node.input):
        return None
    if node.op_type == "MatMul":
        return _Product(node.input[0], node.input[1], "bhsd", "bhdt", "bhst")
    inputs, _, result = attribute(node, "equation").decode().replace(" ", "").partition("->")
    left, right = inputs.split(",")
    lengths = {len(set(axes)) for axes in (left, right, result)}
    return _Product(node.input[0], node.input[1], left, right, result) if lengths == {4} and "." not in inputs else None


def _heads(graph: Rewriter, product: _Product, order: list[str]) -> str | None:
    """Returns queries or keys with their axes in an order, the one that is summed last."""
    for tensor, axes in ((product.left, product.left_axes), (product.right, product.right_axes)):
        if order[1] in axes:
            summed = [axis for axis in axes if axis not in product.axes]
            return _placed(graph, tensor, list(axes), order + summed) if len(summed) == 1 else None
    return None


def _placed(graph: Rewriter, tensor: str, axes: list[str], order: list[str]) -> str | None:
    if sorted(axes) != sorted(order):
        return None
    return graph.transpose(tensor, [axes.index(axis) for axis in order])


def _without_factor(graph: Rewriter, tensor: str) -> tuple[str, float]:
    """Returns a tensor without the number that it is multiplied by."""
    node = graph.producer(tensor, "Mul")
    for read, other in (node.input, node.input[::-1]) if node is not None else ():
        factor = graph.scalar(other)
        if factor:
            return read, factor
    return tensor, 1.0


def _merged(graph: Rewriter, tensor: str) -> str:
    """Returns [b, s, h, d] as [b, s, h * d]."""
    shape = graph.shape(tensor)
    width = (shape[2] or 0) * (shape[3] or 0)
    reshape = graph.producer(tensor, "Reshape")
    if reshape is not None and len(graph.shape(reshape.input[0])) == 3 and graph.shape(reshape.input[0])[2] == width:
        return str(reshape.input[0])
    return graph.reshape(tensor, [0, 0, width])


def _bias(graph: Rewriter, biases: list[str], queries: str) -> str:
    """Returns the sum of biases for every query: ONNX Runtime repeats them for batches and heads alone."""
    if not biases:
        return ""
    total = biases[0]
    for other in biases[1:]:
        total = graph.add("Add", total, other)
    if graph.shape(total)[2:3] not in ((1,), (None,), ()):
        return total
    one = graph.ints(1)
    length = graph.add("Shape", queries, start=1, end=2)
    return graph.add("Expand", total, graph.add("Concat", one, one, length, one, axis=0))
