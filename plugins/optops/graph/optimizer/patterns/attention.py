"""Scaled-dot-product attention over products: found at its softmax, its layout proved by running it on indices.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2. Libraries differ in how they get from a product
[batch, time, width] to heads: reshapes and transposes, einsums, one product for queries, keys and values that is
split in this way or that. Instead of listing these ways, the part of the graph between the products and the scores is
run on arrays that hold their own indices; what comes out says which column of which product each value of each head is.
It must be the same column at every position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, text
from optops.graph.optimizer.patterns.product import Product, product_at
from optops.graph.optimizer.probe import Probe
from optops.graph.optimizer.rewriting import Context
from optops.graph.optimizer.rows import rows_of
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
PRODUCTS = ("BatchMatMulV2", "BatchMatMul", "BatchMatMulV3", "Einsum")
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
        mask: Tensor that is added to the scores [batch, heads, queries, keys], or None.
        subtracted: Whether the mask is subtracted instead.
        result: Tensor that is the product after the attention.
        nodes: That make it.
    """

    source: str
    heads: int
    head_size: int
    query_key_value: tuple[np.ndarray, np.ndarray]
    output: tuple[np.ndarray, np.ndarray]
    mask: str | None
    subtracted: bool
    result: str
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
    """How an operand comes from a product: through `nodes`, times `scale`."""

    operand: Operand
    product: Product
    scale: float
    nodes: tuple[str, ...]


def attentions(graph: Graph, context: Context, outputs: Sequence[Product]) -> dict[str, Attention]:
    """Returns the attentions of a graph by the tensor of their output product; what fails is reported.

    Args:
        graph: Not changed.
        context: Its first samples feed the graph's inputs.
        outputs: The products among which those after the attentions are.
    """
    softmaxes = [node for node in graph.nodes.values() if node.op == "Softmax"]
    if not softmaxes or not context.samples:
        return {}
    found = {}
    after = {product.source: product for product in outputs}
    with Probe(graph, _widest(context)) as probe:
        for node in softmaxes:
            try:
                attention = _at(graph, node, probe, after)
            except (NoAttentionError, tf.errors.OpError, ValueError) as error:
                reason = str(error).splitlines()[0][:200]
                context.left_alone(NAME, node.name, reason)
            else:
                found[attention.result] = attention
    return found


def _widest(context: Context) -> dict[str, np.ndarray]:
    """Returns the sample in which most sizes differ from each other: batch and time must not be mistaken."""
    return max(
        context.samples,
        key=lambda s: (
            max(array.shape[0] if array.ndim else 0 for array in s.values()) > 1,
            -max(array.size for array in s.values()),
        ),
    )


def _at(graph: Graph, softmax: Node, probe: Probe, after: dict[str, Product]) -> Attention:
    scores, scale, (mask, subtracted), above = _scores(graph, softmax.inputs[0])
    query, key = _operands(graph, scores)
    context_node, value, below = _weighted(graph, f"{softmax.name}:0")
    ways = [_way(graph, operand) for operand in (query, key, value)]
    source = rows_of(graph, ways[0].product.source)
    if any(rows_of(graph, way.product.source) != source for way in ways):
        raise NoAttentionError("queries, keys and values are of different tensors: no self-attention")
    batch, heads, time, head_size, columns = _columns(probe, ways)
    output, through = _output_product(graph, f"{context_node.name}:0", after)
    rows = _output_rows(probe, f"{context_node.name}:0", output.source, (batch, heads, time, head_size), context_node)
    return Attention(
        source,
        heads,
        head_size,
        _merged(ways, columns, scale * head_size**0.5),
        (output.kernel[rows], output.bias),
        mask,
        subtracted,
        output.output,
        (
            *above,
            softmax.name,
            *below,
            *through,
            *(n for way in ways for n in (*way.nodes, *way.product.nodes)),
            *output.nodes,
        ),
    )


def _scores(graph: Graph, tensor: str) -> tuple[Node, float, tuple[str | None, bool], tuple[str, ...]]:
    """Returns the product of queries and keys, what it is multiplied by, the mask and its sign, and the nodes."""
    scale, mask, subtracted, nodes = 1.0, None, False, []
    while True:
        node = graph.producer(tensor)
        nodes.append(node.name)
        if node.op in PRODUCTS:
            return node, scale, (mask, subtracted), tuple(nodes)
        if node.op == "Identity":
            tensor = node.inputs[0]
        elif node.op not in ("AddV2", "Add", "Sub"):
            tensor, factor = _scaled(graph, node)
            scale *= factor
        elif (rest := _moved(graph, node)) is not None:
            tensor = rest  # softmax is the same of scores that all are moved by one number
        elif mask is not None:
            raise NoAttentionError(f"{node.name}: more than one tensor is added to the scores")
        elif scale != 1.0:
            raise NoAttentionError(f"{node.name}: the mask is scaled with the scores")
        else:
            (tensor, mask), subtracted = _scores_first(graph, node), node.op == "Sub"


def _moved(graph: Graph, node: Node) -> str | None:
    """Returns what a number is added to, or None."""
    for read, other in (node.inputs, node.inputs[::-1])[: 1 if node.op == "Sub" else 2]:
        value = graph.constant(other)
        if value is not None and value.size == 1:
            return read
    return None


def _scores_first(graph: Graph, node: Node) -> tuple[str, str]:
    """Returns which input of a sum are scores: those that come from a product."""
    for one, other in (node.inputs, node.inputs[::-1])[: 1 if node.op == "Sub" else 2]:
        maker = graph.producer(one)
        while maker.op in ("Mul", "RealDiv", "Identity", "AddV2", "Add"):
            maker = graph.producer(maker.inputs[0])
        if maker.op in PRODUCTS:
            return one, other
    raise NoAttentionError(f"{node.name} adds nothing to a product of queries and keys")


def _scaled(graph: Graph, node: Node) -> tuple[str, float]:
    if node.op in ("Mul", "RealDiv"):
        for read, other in (node.inputs, node.inputs[::-1])[: 2 if node.op == "Mul" else 1]:
            value = graph.constant(other)
            if value is not None and value.size == 1:
                factor = float(value.reshape(()))
                return read, factor if node.op == "Mul" else 1.0 / factor
    raise NoAttentionError(f"{node.name} ({node.op}) stands between the softmax and a product of queries and keys")


def _operands(graph: Graph, node: Node) -> tuple[Operand, Operand]:
    """Returns queries and keys of the product that makes scores [..., queries, keys]."""
    if node.op != "Einsum":
        if node.attributes["adj_x"].b:
            raise NoAttentionError(f"{node.name} transposes the queries")
        keys = node.inputs[1]
        rank = len(graph.shape(keys) or ())
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        return Operand(node.inputs[0]), Operand(keys, None if node.attributes["adj_y"].b else swapped)
    (one, two), result = _labels(node)
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


def _labels(node: Node) -> tuple[tuple[str, str], str]:
    inputs, _, result = text(node, "equation").replace(" ", "").partition("->")
    one, _, two = inputs.partition(",")
    return (one, two), result


def _weighted(graph: Graph, tensor: str) -> tuple[Node, Operand, tuple[str, ...]]:
    """Returns the product of the weights and the values, its values, and the nodes before it."""
    nodes: list[str] = []
    while True:
        readers = [node for node in graph.consumers(tensor) if node.op != "Shape"]
        products = [node for node in readers if node.op in PRODUCTS]
        if len(products) == 1:
            return products[0], _values(graph, products[0], tensor), (*nodes, products[0].name)
        if len(readers) != 1 or readers[0].op != "Identity":
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
    labels, result = _labels(node)
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
        if node.op in MOVES:
            tensor = node.inputs[DATA_INPUT.get(node.op, 0)]
        else:
            try:
                tensor, factor = _scaled(graph, node)
            except NoAttentionError:
                raise NoAttentionError(f"{node.name} ({node.op}) stands between a product and the scores") from None
            scale *= factor


def _columns(probe: Probe, ways: list[Way]) -> tuple[int, int, int, int, list[np.ndarray]]:
    """Returns batch, heads, time, head size, and for each operand the column of its product, [heads * head size]."""
    products = {way.product.output: way.product for way in ways}
    shapes = dict(zip(products, probe.run([f"{name}" for name in products]), strict=True))
    given, counts = {}, {}
    for name, value in shapes.items():
        columns = products[name].kernel.shape[1]
        given[name] = np.arange(1, value.size + 1, dtype=np.float32).reshape(value.shape)
        counts[name] = value.size // columns
    arrays = probe.run([way.operand.tensor for way in ways], given)
    columns = []
    sizes: tuple[int, int, int, int] | None = None
    for way, array in zip(ways, arrays, strict=True):
        width = way.product.kernel.shape[1]
        index = np.rint(way.operand.arranged(array).astype(np.float64) / way.scale).astype(np.int64) - 1
        index, found = _by_position(index, counts[way.product.output])
        sizes = sizes or found
        if found != sizes:
            raise NoAttentionError(f"queries, keys and values have different sizes: {found} and {sizes}")
        batch, _, time, _ = found
        row, column = index // width, index % width
        expected = np.arange(batch)[:, None, None, None] * time + np.arange(time)[None, None, :, None]
        if not (row == expected).all() or not (column == column[:1, :, :1]).all():
            raise NoAttentionError(f"{way.operand.tensor} mixes positions of {way.product.output}")
        columns.append(column[0, :, 0].reshape(-1))
    assert sizes is not None
    return (*sizes, columns)


def _by_position(index: np.ndarray, rows: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Returns indices as [batch, heads, time, head size]; heads may have been in one axis with the batch."""
    if index.ndim == 3:
        batch = max(rows // index.shape[1], 1)
        index = index.reshape(batch, -1, *index.shape[1:])
    if index.ndim != 4:
        raise NoAttentionError(f"heads have {index.ndim} axes")
    batch, heads, time, head_size = (int(size) for size in index.shape)
    if batch * time != rows:
        raise NoAttentionError(f"{batch} times {time} positions are not the {rows} rows of the product")
    return index, (batch, heads, time, head_size)


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


def _output_rows(probe: Probe, context: str, source: str, sizes: tuple[int, int, int, int], node: Node) -> np.ndarray:
    """Returns which row of the output's kernel takes each value of each head, [heads * head size]."""
    batch, heads, time, head_size = sizes
    index = np.arange(batch * heads * time * head_size, dtype=np.int64).reshape(batch, heads, time, head_size)
    (shaped,) = probe.run([context])
    array: np.ndarray = index
    if node.op == "Einsum":
        array = index.transpose(_result_order(node))
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


def _result_order(node: Node) -> tuple[int, ...]:
    """Returns the order of [batch, heads, time, head size] in which an einsum gives its result."""
    labels, result = _labels(node)
    weights = labels[0] if len(set(labels[0]) & set(result)) == 3 and labels[0][-1] not in result else labels[1]
    *batch, query, _ = list(weights)
    if len(batch) != 2:
        raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) has no axes of batch and heads")
    last = next(label for label in result if label not in weights)
    return tuple([*batch, query, last].index(label) for label in result)


def _merged(ways: list[Way], columns: list[np.ndarray], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of queries, keys and values side by side, the scale of the scores in the queries."""
    factors = [ways[0].scale * ways[1].scale * scale, 1.0, ways[2].scale]
    kernels = [w.product.kernel[:, c].astype(np.float64) * f for w, c, f in zip(ways, columns, factors, strict=True)]
    biases = [w.product.bias[c].astype(np.float64) * f for w, c, f in zip(ways, columns, factors, strict=True)]
    return np.concatenate(kernels, 1).astype(np.float32), np.concatenate(biases).astype(np.float32)
