"""Attention becomes ONNX Runtime's MultiHeadAttention: two products around a softmax, as MatMul or einsum.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Axes are called b (batch), s (queries), t (keys), h (heads), d.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from optops.graph.onnx_fusions.rewriting import Rewriter, attribute, has_same_sizes, known_sizes
from optops.graph.onnx_nodes import CONTRIB
from optops.graph.optimizer.patterns.mask import HIDES

DEPTH = 6
HIDDEN = np.float32(-1e30)
"""Beside it no score counts, and two of them are still finite."""
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
    """What a softmax is taken of: a product with a factor, what is added to it, and where another number is chosen.

    Attributes:
        product: Of queries and keys.
        scale: Its factor.
        biases: What is added.
        seen: Truth values of rank 4 where a score is not hidden; empty if there are none.
        shapes: Names under which something else reads their shape.
    """

    product: _Product
    scale: float = 1.0
    biases: list[str] = field(default_factory=list)
    seen: str = ""
    shapes: list[str] = field(default_factory=list)


def fuse_attention(graph: Rewriter) -> int:
    """Fuses all; returns how many."""
    fused = 0
    for softmax in [node for node in graph.graph.node if node.op_type == "Softmax"]:
        rank = len(graph.shape(softmax.output[0]))
        weights = softmax.output[0]
        if rank != 4 or attribute(softmax, "axis", -1) not in (-1, 3) or not graph.used_once(weights):
            continue
        scores = _scores(graph, softmax.input[0], DEPTH)
        if scores is None:
            continue
        zeroed = _zeroed(graph, weights, scores.seen)
        (mixing,) = graph.readers(zeroed or weights)
        mixed = _product(graph, mixing)
        if mixed is not None and _fuse(graph, scores, mixed, weights, zeroed, mixing.output[0]):
            fused += 1
    return fused


def _zeroed(graph: Rewriter, weights: str, seen: str) -> str:
    """Returns what chooses 0 where keys are hidden, as Keras 3 does behind the softmax; empty if nothing does."""
    (node,) = graph.readers(weights)
    chooses = node.op_type == "Where" and list(node.input[:2]) == [seen, weights] and graph.scalar(node.input[2]) == 0
    return str(node.output[0]) if chooses and graph.used_once(node.output[0]) else ""


def _fuse(graph: Rewriter, scores: _Scores, mixed: _Product, weights: str, zeroed: str, result: str) -> bool:
    """Replaces attention if its axes are those of one; says whether."""
    batch, heads, length, keys = list(scores.product.axes)
    given = {mixed.left: mixed.left_axes, mixed.right: mixed.right_axes}
    renamed = dict(zip(given.pop(zeroed or weights), scores.product.axes, strict=True))
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
    sizes = [known_sizes(graph.shape(each)[2:]) for each in found]
    if len(found) < 3 or not all(map(all, sizes)) or sizes[0] != sizes[1] or sizes[0][0] != sizes[2][0]:
        return False
    found[0], factor = _without_factor(graph, found[0])
    lengths = [graph.add("Shape", each, start=1, end=2) for each in found[:2]]
    _release(graph, scores.shapes, [graph.add("Shape", found[0], start=0, end=1), graph.ints(sizes[0][0]), *lengths])
    bias = _bias(graph, [*scores.biases, *_hidden(graph, scores.seen)], lengths)
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
    if zeroed:
        split = _where_any(graph, split, scores.seen)
    graph.redirect(result, graph.transpose(split, [order.index(axis) for axis in axes]))
    return True


def _scores(graph: Rewriter, tensor: str, depth: int) -> _Scores | None:
    """Returns how scores are made: a product of queries and keys, then factors, then masks and other biases."""
    node = graph.producer(tensor, "MatMul", "Einsum", "Add", "Mul", "Div", "Where")
    readers = graph.readers(tensor)
    shapes = [reader.output[0] for reader in readers if reader.op_type == "Shape" and not reader.attribute]
    if node is None or not depth or len(readers) != len(shapes) + 1 or tensor in graph.outputs:
        return None
    made = _made(graph, node, depth)
    return None if made is None else replace(made, shapes=[*made.shapes, *shapes])


def _made(graph: Rewriter, node: Any, depth: int) -> _Scores | None:
    if node.op_type in ("MatMul", "Einsum"):
        return _bare(graph, node)
    if node.op_type == "Where":
        return _chosen(graph, node, depth)
    for read, added in (node.input, node.input[::-1]):
        inner, factor = _scores(graph, read, depth - 1), graph.scalar(added)
        if inner is None:
            continue
        if node.op_type == "Add":
            return replace(inner, biases=[*inner.biases, added])
        if factor and not (inner.biases or inner.seen) and (node.op_type == "Mul" or read == node.input[0]):
            return replace(inner, scale=inner.scale * (factor if node.op_type == "Mul" else 1 / factor))
    return None


def _bare(graph: Rewriter, node: Any) -> _Scores | None:
    product = _product(graph, node)
    if product is None:
        return None
    (left, one), (right, other) = (_without_factor(graph, each) for each in (product.left, product.right))
    return _Scores(replace(product, left=left, right=right), one * other)


def _chosen(graph: Rewriter, node: Any, depth: int) -> _Scores | None:
    """Returns scores that are chosen where keys are seen; elsewhere there is a number that hides them."""
    seen = _without_ones(graph, node.input[0])
    scores, hidden = _scores(graph, node.input[1], depth - 1), graph.scalar(node.input[2])
    if scores is None or scores.seen or hidden is None or hidden > HIDES or len(graph.shape(seen)) != 4:
        return None
    return replace(scores, seen=seen)


def _without_ones(graph: Rewriter, seen: str) -> str:
    """Returns truth values without those that are true everywhere, which give Keras 3's the shape of the scores."""
    node = graph.producer(seen, "And")
    for read, other in (node.input, node.input[::-1]) if node is not None else ():
        expand = graph.producer(read, "Expand")
        if expand is not None and graph.scalar(expand.input[0]) == 1:
            return str(other)
    return seen


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
    width = int(np.prod(known_sizes(shape[2:])))
    reshape = graph.producer(tensor, "Reshape")
    before = graph.shape(reshape.input[0]) if reshape is not None else ()
    if has_same_sizes(before, shape) and before[2] == width:
        return str(reshape.input[0])
    return graph.reshape(tensor, [0, 0, width])


def _hidden(graph: Rewriter, seen: str) -> list[str]:
    """Returns what hides keys when it is added to scores, where something does."""
    if not seen:
        return []
    numbers = [graph.constant(np.array(number, np.float32)) for number in (0, HIDDEN)]
    return [graph.add("Where", seen, *numbers, shape=graph.shape(seen))]


def _where_any(graph: Rewriter, mixed: str, seen: str) -> str:
    """Returns [b, s, h, d], with zeros for queries that see nothing: a softmax gives their keys equal weights."""
    numbers = graph.add("Cast", seen, shape=graph.shape(seen), to=1)  # float32
    most = graph.add("ReduceMax", numbers, graph.ints(3), shape=(*graph.shape(seen)[:3], 1))
    return graph.add("Mul", mixed, graph.transpose(most, [0, 2, 1, 3]), shape=graph.shape(mixed))


def _release(graph: Rewriter, shapes: list[str], sizes: list[str]) -> None:
    """Makes the shape of scores of the sizes that they have: what reads it, as masks do, needs no scores for that."""
    for old in shapes:
        graph.redirect(old, graph.add("Concat", *sizes, axis=0))


def _bias(graph: Rewriter, biases: list[str], lengths: list[str]) -> str:
    """Returns the sum of biases for every query and key: ONNX Runtime repeats them for batches and heads alone."""
    if not biases:
        return ""
    total = biases[0]
    for other in biases[1:]:
        total = graph.add("Add", total, other)
    shape = graph.shape(total)
    if len(shape) == 4 and 1 not in shape[2:] and all(shape[2:]):
        return total
    one = graph.ints(1)
    return graph.add("Expand", total, graph.add("Concat", one, one, *lengths, axis=0))
