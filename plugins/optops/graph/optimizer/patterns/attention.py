"""Scaled-dot-product attention over products: found at its softmax, its layout proved by running it on indices.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2. Libraries differ in how they get from a product
[batch, time, width] to heads: reshapes and transposes, einsums, one product for queries, keys and values that is
split in this way or that. Instead of listing these ways, the part of the graph between the products and the scores is
run on arrays that hold their own indices; what comes out says which column of which product each value of each head is.
It must be the same column at every position. Run on zeros, it says what is added on the way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.patterns.mask import Mask
from optops.graph.optimizer.patterns.product import Product, product_at
from optops.graph.optimizer.patterns.scaling import scaled
from optops.graph.optimizer.patterns.scores import (
    NoAttentionError,
    Operand,
    Weighted,
    multiplied,
    scores_at,
    weighted_at,
)
from optops.graph.optimizer.probe import Probe
from optops.graph.optimizer.rewriting import Context
from optops.graph.optimizer.rows import rows_of
from optops.models.keras import tf

NAME = "attention"
PLACES = 1 << 12
"""In how many parts the numbers of places are cut; see `_places`."""
MOVES = frozenset(
    [
        "Reshape",
        "Transpose",
        "Identity",
        "Split",
        "SplitV",
        "StridedSlice",
        "Unpack",
        "ExpandDims",
        "Squeeze",
        "StopGradient",
        "Slice",
        "GatherV2",
    ]
)
DATA_INPUT = {"Split": 1}


@dataclass(frozen=True)
class Attention:
    """Self-attention with its four products.

    Attributes:
        source: Tensor that queries, keys and values are products of; its rows are positions.
        heads: How many.
        head_size: Of each.
        query_key_value: float32 [width, 3 * heads * head_size] and bias, the scale of the scores in the queries so that
            the operator library's 1 / sqrt(head size) gives the model's.
        output: float32 [heads * head_size, width] and bias.
        scores: Tensor that is the product of queries and keys.
        masks: Of the scores; a key is seen where all of them say so.
        merged_heads: Whether the scores are [batch * heads, queries, keys], not [batch, heads, queries, keys].
        result: Tensor that is the product after the attention.
        nodes: That make it.
    """

    source: str
    heads: int
    head_size: int
    query_key_value: tuple[np.ndarray, np.ndarray]
    output: tuple[np.ndarray, np.ndarray]
    scores: str
    masks: tuple[Mask, ...]
    merged_heads: bool
    result: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """How an operand comes from a product: through `nodes`, times `scale`; constants may be added on the way."""

    operand: Operand
    product: Product
    scale: float
    nodes: tuple[str, ...]


def attentions(graph: Graph, context: Context, outputs: Sequence[Product]) -> dict[str, Attention]:
    """Returns the attentions of a graph by the tensor of their output product; what fails is reported.

    Args:
        graph: Not changed.
        context: One of its samples feeds the graph's inputs.
        outputs: The products among which those after the attentions are.
    """
    softmaxes = [node for node in graph.nodes.values() if node.op == "Softmax" and _may_be_scores(graph, node)]
    if not softmaxes or not context.samples:
        return {}
    found = {}
    after = {product.source: product for product in outputs}
    with Probe(graph, max(context.samples, key=_tells)) as probe:
        for node in softmaxes:
            try:
                attention = _at(graph, node, probe, after)
            except (NoAttentionError, tf.errors.OpError, ValueError) as error:
                reason = str(error).splitlines()[0][:200]
                context.left_alone(NAME, node.name, reason)
            else:
                found[attention.result] = attention
    return found


def _may_be_scores(graph: Graph, softmax: Node) -> bool:
    # Over [examples, classes] it is a classifier's.
    shape = graph.shape(softmax.inputs[0])
    return shape is None or len(shape) > 2


def _tells(sample: Mapping[str, np.ndarray]) -> tuple[bool, int, int]:
    """Returns how well batch and time are told apart in a sample; of two that do it as well, the smaller is better.

    There must be several examples, and sizes that differ. One of 1 does not count: where there is a single position,
    examples look like positions.
    """
    arrays = sample.values()
    sizes = {size for array in arrays for size in array.shape if size > 1}
    return any(array.ndim and array.shape[0] > 1 for array in arrays), len(sizes), -max(array.size for array in arrays)


def _at(graph: Graph, softmax: Node, probe: Probe, after: dict[str, Product]) -> Attention:
    scores = scores_at(graph, softmax.inputs[0])
    one, other = multiplied(graph, scores.product)
    query, key = (other, one) if scores.transposed else (one, other)
    weighted = weighted_at(graph, f"{softmax.name}:0", scores.masks)
    ways = [_way(graph, operand) for operand in (query, key, weighted.values)]
    source = rows_of(graph, ways[0].product.source)
    if any(rows_of(graph, way.product.source) != source for way in ways):
        raise NoAttentionError("queries, keys and values are of different tensors: no self-attention")
    batch, heads, time, head_size, columns = _columns(probe, ways)
    output, through = _output_product(graph, f"{weighted.product.name}:0", after)
    rows = _output_rows(probe, weighted, output.source, (batch, heads, time, head_size))
    return Attention(
        source,
        heads,
        head_size,
        _merged(ways, columns, scores.scale * head_size**0.5),
        (output.kernel[rows], output.bias),
        f"{scores.product.name}:0",
        scores.masks,
        len(graph.shape(softmax.inputs[0]) or ()) == 3,
        output.output,
        (
            *scores.nodes,
            softmax.name,
            *weighted.nodes,
            *through,
            *(n for way in ways for n in (*way.nodes, *way.product.nodes)),
            *output.nodes,
        ),
    )


def _way(graph: Graph, operand: Operand) -> Way:
    tensor, scale = operand.tensor, 1.0
    nodes: list[str] = []
    while True:
        product = product_at(graph, tensor)
        if product is not None:
            return Way(operand, product, scale, tuple(nodes))
        node = graph.producer(tensor)
        nodes.append(node.name)
        if graph.dtype(tensor) not in (tf.float32, None):
            raise NoAttentionError(f"{node.name} is {graph.dtype(tensor).name}; the operator takes float32")
        if node.op in MOVES:
            tensor = node.inputs[DATA_INPUT.get(node.op, 0)]
        elif (rest := _added_to(graph, node)) is not None:
            tensor = rest
        elif (found := scaled(graph, node)) is not None:
            tensor, factor = found
            scale *= factor
        else:
            raise NoAttentionError(f"{node.name} ({node.op}) stands between a product and the scores")


def _added_to(graph: Graph, node: Node) -> str | None:
    """Returns what a constant is added to, or None."""
    if node.op not in ("BiasAdd", "AddV2", "Add"):
        return None
    constants = [graph.constant(read) is not None for read in node.inputs]
    return node.inputs[constants.index(False)] if sorted(constants) == [False, True] else None


@dataclass(frozen=True)
class Columns:
    """Which column of its product each value of each head is, and what is added to it: [heads * head size]."""

    index: np.ndarray
    added: np.ndarray


def _columns(probe: Probe, ways: list[Way]) -> tuple[int, int, int, int, list[Columns]]:
    """Returns batch, heads, time, head size, and for each operand its columns."""
    products = {way.product.output: way.product for way in ways}
    shapes = dict(zip(products, (value.shape for value in probe.run(list(products))), strict=True))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    places = {name: _places(zero.shape) for name, zero in zeros.items()}
    operands = [way.operand.tensor for way in ways]
    columns = []
    sizes: tuple[int, int, int, int] | None = None
    moved = [probe.run(operands, {name: place[part] for name, place in places.items()}) for part in range(2)]
    for way, zero, *parts in zip(ways, probe.run(operands, zeros), *moved, strict=True):
        width = way.product.kernel.shape[1]
        rows = zeros[way.product.output].size // width
        added, found = _by_position(way.operand.arranged(zero), rows)
        numbered = (_by_position(way.operand.arranged(part), rows)[0].astype(np.float64) for part in parts)
        index = _index(*((part - added) / way.scale for part in numbered)) - 1
        sizes = sizes or found
        if found != sizes:
            raise NoAttentionError(f"queries, keys and values have different sizes: {found} and {sizes}")
        batch, _, time, _ = found
        row, column = index // width, index % width
        expected = np.arange(batch)[:, None, None, None] * time + np.arange(time)[None, None, :, None]
        if not (row == expected).all() or not all((each == each[:1, :, :1]).all() for each in (column, added)):
            raise NoAttentionError(f"{way.operand.tensor} mixes positions of {way.product.output}")
        columns.append(Columns(column[0, :, 0].reshape(-1), added[0, :, 0].reshape(-1)))
    assert sizes is not None
    return (*sizes, columns)


def _places(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of each place of an array in two parts: a float32 holds 2^24 of them."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    high, low = (part.astype(np.float32) for part in divmod(numbers, PLACES))
    return high, low + 1  # 0 is what has no place


def _index(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Returns the numbers of places whose parts were moved."""
    index: np.ndarray = np.rint(high).astype(np.int64) * PLACES + np.rint(low).astype(np.int64)
    return index


def _by_position(array: np.ndarray, rows: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Returns an operand as [batch, heads, time, head size]; heads may have been in one axis with the batch."""
    if array.ndim == 3:
        batch = max(rows // array.shape[1], 1)
        array = array.reshape(batch, -1, *array.shape[1:])
    if array.ndim != 4:
        raise NoAttentionError(f"heads have {array.ndim} axes")
    batch, heads, time, head_size = (int(size) for size in array.shape)
    if batch * time != rows:
        raise NoAttentionError(f"{batch} times {time} positions are not the {rows} rows of the product")
    return array, (batch, heads, time, head_size)


def _output_product(graph: Graph, tensor: str, after: dict[str, Product]) -> tuple[Product, tuple[str, ...]]:
    """Returns the product that a tensor leads to, through nothing but moves, and these."""
    todo: list[tuple[str, tuple[str, ...]]] = [(tensor, ())]
    while todo:
        read, nodes = todo.pop()
        if read in after:
            return after[read], nodes
        todo += [
            (f"{node.name}:0", (*nodes, node.name))
            for node in graph.consumers(read)
            if node.op in MOVES and node.inputs[DATA_INPUT.get(node.op, 0)] == read
        ]
    raise NoAttentionError(f"no product follows {tensor}")


def _output_rows(probe: Probe, weighted: Weighted, source: str, sizes: tuple[int, int, int, int]) -> np.ndarray:
    """Returns which row of the output's kernel takes each value of each head, [heads * head size]."""
    batch, heads, time, head_size = sizes
    context = f"{weighted.product.name}:0"
    index = np.arange(batch * heads * time * head_size, dtype=np.int64).reshape(batch, heads, time, head_size)
    (shaped,) = probe.run([context])
    array = index if len(weighted.order) == 4 else index.reshape(batch * heads, time, head_size)
    array = array.transpose(weighted.order)
    if array.shape != shaped.shape:
        raise NoAttentionError(f"{context} is {shaped.shape}, not {array.shape}")
    parts = [probe.run([source], {context: part.astype(np.float32)})[0] for part in divmod(array, PLACES)]
    rows = _index(*parts).reshape(batch, time, heads * head_size)
    flat = index.transpose(0, 2, 1, 3).reshape(batch, time, heads * head_size)
    place = np.argsort(rows[0, 0])[np.argsort(np.argsort(flat[0, 0]))]
    if not (rows[:, :, place] == flat).all():
        raise NoAttentionError(f"{source} mixes positions of {context}")
    return place


def _merged(ways: list[Way], columns: list[Columns], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of queries, keys and values side by side, the scale of the scores in the queries."""
    kernels, biases = [], []
    for way, column, factor in zip(ways, columns, (scale, 1.0, 1.0), strict=True):
        kernels.append(way.product.kernel[:, column.index].astype(np.float64) * way.scale * factor)
        bias = way.product.bias[column.index].astype(np.float64) * way.scale
        biases.append((bias + column.added) * factor)
    return np.concatenate(kernels, 1).astype(np.float32), np.concatenate(biases).astype(np.float32)
