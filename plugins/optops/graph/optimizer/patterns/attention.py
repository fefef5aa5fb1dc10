"""Scaled-dot-product attention over products: found at its softmax, its layout proved by running it on indices.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2. Libraries differ in how they get from a product
[batch, time, width] to heads: reshapes and transposes, einsums, one product for queries, keys and values that is
split in this way or that. Instead of listing these ways, the part of the graph between the products and the scores is
run on arrays that hold their own indices; what comes out says which column of which product each value of each head is.
It must be the same column at every position. Run on zeros, it says what is added on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, text
from optops.graph.optimizer.patterns.mask import HIDES, SELECTS, Mask, choice, zeroes_hidden
from optops.graph.optimizer.patterns.product import Product, einsum_labels, product_at
from optops.graph.optimizer.patterns.scaling import PRODUCTS, SUMS, scaled, scores_first, shifted
from optops.graph.optimizer.probe import Probe
from optops.graph.optimizer.rewriting import Context
from optops.graph.optimizer.rows import KEEPS_VALUES, rows_of
from optops.models.keras import tf

NAME = "attention"
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


class NoAttentionError(Exception):
    """Why something around a softmax is no attention that can be fused."""


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
class Scores:
    """What a softmax reads: `product * scale`, masked.

    Attributes:
        product: Of queries and keys, or of keys and queries if it is transposed behind.
        transposed: Whether it is.
        scale: What it is multiplied by.
        masks: That hide keys.
        nodes: That make it.
    """

    product: Node
    transposed: bool
    scale: float
    masks: tuple[Mask, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Operand:
    """An operand of a batched product: a tensor, and the order of its axes that gives [..., time, head size]."""

    tensor: str
    order: tuple[int, ...] | None = None

    def arranged(self, array: np.ndarray) -> np.ndarray:
        """Returns an array of the tensor as [batch, heads, time, head size] or [batch * heads, time, head size]."""
        return array if self.order is None else array.transpose(self.order)


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
    scores = _scores(graph, softmax.inputs[0])
    one, other = _operands(graph, scores.product)
    query, key = (other, one) if scores.transposed else (one, other)
    context_node, value, below = _weighted(graph, f"{softmax.name}:0", scores.masks)
    ways = [_way(graph, operand) for operand in (query, key, value)]
    source = rows_of(graph, ways[0].product.source)
    if any(rows_of(graph, way.product.source) != source for way in ways):
        raise NoAttentionError("queries, keys and values are of different tensors: no self-attention")
    batch, heads, time, head_size, columns = _columns(probe, ways)
    output, through = _output_product(graph, f"{context_node.name}:0", after)
    rows = _output_rows(graph, probe, context_node, output.source, (batch, heads, time, head_size))
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
            *below,
            *through,
            *(n for way in ways for n in (*way.nodes, *way.product.nodes)),
            *output.nodes,
        ),
    )


def _scores(graph: Graph, tensor: str) -> Scores:
    scale, transposed, nodes = 1.0, False, []
    masks: tuple[Mask, ...] = ()
    while True:
        node = graph.producer(tensor)
        nodes.append(node.name)
        if node.op in PRODUCTS:
            return Scores(node, transposed, scale, masks, tuple(nodes))
        if node.op in KEEPS_VALUES:
            tensor = node.inputs[0]
        elif node.op == "Transpose" and _swaps_last_axes(graph, node):
            tensor, transposed = node.inputs[0], not transposed
        elif node.op not in (*SUMS, *SELECTS):
            tensor, factor = _scaled(graph, node)
            scale *= factor
        elif (rest := shifted(graph, node)) is not None:
            tensor = rest  # softmax is the same of scores that one number is added to
        elif transposed:
            raise NoAttentionError(f"{node.name}: the scores are transposed behind their mask")
        else:
            tensor, found = _masked(graph, node, scale)
            masks = tuple(dict.fromkeys((*masks, *found)))


def _swaps_last_axes(graph: Graph, node: Node) -> bool:
    order = graph.constant(node.inputs[1])
    rank = 0 if order is None else order.size
    return order is not None and order.tolist() == [*range(rank - 2), rank - 1, rank - 2]


def _masked(graph: Graph, node: Node, scale: float) -> tuple[str, tuple[Mask, ...]]:
    """Returns the scores that a node masks, and their masks; what it makes is multiplied by `scale` then."""
    if node.op in SELECTS:
        chosen = choice(graph, node)
        if chosen is None or chosen[1] * scale > HIDES:
            raise NoAttentionError(f"{node.name} ({node.op}) chooses other than scores or a number that hides them")
        return chosen[0], chosen[2]
    found = scores_first(graph, node)
    if found is None:
        raise NoAttentionError(f"{node.name} adds nothing to a product of queries and keys")
    return found[0], (Mask(found[1], -scale if node.op == "Sub" else scale),)


def _scaled(graph: Graph, node: Node) -> tuple[str, float]:
    found = scaled(graph, node)
    if found is not None:
        return found
    raise NoAttentionError(f"{node.name} ({node.op}) stands between the softmax and a product of queries and keys")


def _operands(graph: Graph, node: Node) -> tuple[Operand, Operand]:
    """Returns queries and keys of the product that makes scores [..., queries, keys]."""
    if node.op != "Einsum":
        rank = next((len(shape) for read in node.inputs if (shape := graph.shape(read))), 0)
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        queries, keys = node.inputs
        return (
            Operand(queries, swapped if node.attributes["adj_x"].b else None),
            Operand(keys, None if node.attributes["adj_y"].b else swapped),
        )
    (one, two), result = einsum_labels(graph, node)
    if len(result) < 3:
        raise NoAttentionError(f"{node.name} makes no scores")
    *batch, query, key = list(result)
    first, second = (0, 1) if query in one else (1, 0)
    labels = (one, two)
    summed = [label for label in labels[first] if label not in result]
    wanted = [*batch, query, *summed], [*batch, key, *summed]
    operands = []
    for index, order in zip((first, second), wanted, strict=True):
        if sorted(order) != sorted(labels[index]):
            raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) is no product of queries and keys")
        operands.append(Operand(node.inputs[index], tuple(labels[index].index(label) for label in order)))
    return operands[0], operands[1]


def _weighted(graph: Graph, tensor: str, masks: tuple[Mask, ...]) -> tuple[Node, Operand, tuple[str, ...]]:
    """Returns the product of the weights and the values, its values, and the nodes before it."""
    nodes: list[str] = []
    while True:
        readers = [node for node in graph.consumers(tensor) if node.op != "Shape"]
        products = [node for node in readers if node.op in PRODUCTS]
        if len(products) == 1:
            return products[0], _values(graph, products[0], tensor), (*nodes, products[0].name)
        if len(readers) != 1 or not (readers[0].op in KEEPS_VALUES or zeroes_hidden(graph, readers[0], masks)):
            raise NoAttentionError(
                f"{tensor} is read by {', '.join(n.op for n in readers) or 'nothing'}, not by a product"
            )
        nodes.append(readers[0].name)
        tensor = f"{readers[0].name}:0"


def _values(graph: Graph, node: Node, weights: str) -> Operand:
    if node.op != "Einsum":
        if node.inputs[0] != weights or node.attributes["adj_x"].b or node.attributes["adj_y"].b:
            raise NoAttentionError(f"{node.name} is no product of weights and values")
        return Operand(node.inputs[1])
    labels, result = einsum_labels(graph, node)
    place = 0 if node.inputs[0] == weights else 1
    *batch, query, key = list(labels[place])
    values = labels[1 - place]
    rest = [label for label in values if label not in batch and label != key]
    if len(rest) != 1 or sorted(result) != sorted([*batch, query, *rest]):
        raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) is no product of weights and values")
    return Operand(node.inputs[1 - place], tuple(values.index(label) for label in [*batch, key, *rest]))


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
        else:
            try:
                tensor, factor = _scaled(graph, node)
            except NoAttentionError:
                raise NoAttentionError(f"{node.name} ({node.op}) stands between a product and the scores") from None
            scale *= factor


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
    numbers = {name: np.arange(1, zero.size + 1, dtype=np.float32).reshape(zero.shape) for name, zero in zeros.items()}
    operands = [way.operand.tensor for way in ways]
    columns = []
    sizes: tuple[int, int, int, int] | None = None
    for way, zero, moved in zip(ways, probe.run(operands, zeros), probe.run(operands, numbers), strict=True):
        width = way.product.kernel.shape[1]
        rows = zeros[way.product.output].size // width
        added, found = _by_position(way.operand.arranged(zero), rows)
        numbered, _ = _by_position(way.operand.arranged(moved), rows)
        index = np.rint((numbered.astype(np.float64) - added) / way.scale).astype(np.int64) - 1
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


def _output_rows(graph: Graph, probe: Probe, node: Node, source: str, sizes: tuple[int, int, int, int]) -> np.ndarray:
    """Returns which row of the output's kernel takes each value of each head, [heads * head size]."""
    batch, heads, time, head_size = sizes
    context = f"{node.name}:0"
    index = np.arange(batch * heads * time * head_size, dtype=np.int64).reshape(batch, heads, time, head_size)
    (shaped,) = probe.run([context])
    array: np.ndarray = index
    if node.op == "Einsum":
        array = index.transpose(_result_order(graph, node))
    elif shaped.ndim == 3:
        array = index.reshape(shaped.shape)
    if array.shape != shaped.shape:
        raise NoAttentionError(f"{context} is {shaped.shape}, not {array.shape}")
    (rows,) = probe.run([source], {context: array.astype(np.float32)})
    rows = np.rint(rows).astype(np.int64).reshape(batch, time, heads * head_size)
    flat = index.transpose(0, 2, 1, 3).reshape(batch, time, heads * head_size)
    place = np.argsort(rows[0, 0])[np.argsort(np.argsort(flat[0, 0]))]
    if not (rows[:, :, place] == flat).all():
        raise NoAttentionError(f"{source} mixes positions of {context}")
    return place


def _result_order(graph: Graph, node: Node) -> tuple[int, ...]:
    """Returns the order of [batch, heads, time, head size] in which an einsum gives its result."""
    labels, result = einsum_labels(graph, node)
    weights = labels[0] if len(set(labels[0]) & set(result)) == 3 and labels[0][-1] not in result else labels[1]
    *batch, query, _ = list(weights)
    if len(batch) != 2:
        raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) has no axes of batch and heads")
    last = next(label for label in result if label not in weights)
    return tuple([*batch, query, last].index(label) for label in result)


def _merged(ways: list[Way], columns: list[Columns], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of queries, keys and values side by side, the scale of the scores in the queries."""
    kernels, biases = [], []
    for way, column, factor in zip(ways, columns, (scale, 1.0, 1.0), strict=True):
        kernels.append(way.product.kernel[:, column.index].astype(np.float64) * way.scale * factor)
        bias = way.product.bias[column.index].astype(np.float64) * way.scale
        biases.append((bias + column.added) * factor)
    return np.concatenate(kernels, 1).astype(np.float32), np.concatenate(biases).astype(np.float32)
