"""Scaled-dot-product attention that is in no encoder layer becomes one operator; its own products stay where they are.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2. The operator takes lengths, and whether a query sees
what comes later; a graph adds a mask to the scores. If that is no constant, the rewritten graph looks at its values: it
takes the operator where they hide the ends of memories (and what comes later, if they did in the samples), and computes
what it did where they hide anything else. So it does where one example of queries, keys or values counts for all of a
batch, unless it is known that they are equally many: the operator repeats nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, producer_of
from optops.graph.optimizer.patterns.mask import Mask, seen_keys
from optops.graph.optimizer.patterns.scores import NoAttentionError, Operand, multiplied, scores_at, weighted_at
from optops.graph.optimizer.probe import Probe
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.sizes import Sizes
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

NAME = "attention alone"
HEADS_BESIDE = (0, 2, 1, 3)
"""From [batch, heads, time, size] to [batch, time, heads, size], and back."""
FEWEST_KEYS = 32
"""The operator multiplies keys in panels of 64: of much fewer, most of its work is for nothing."""


@dataclass(frozen=True)
class Attention:
    """`softmax(scale Q K^T + mask) V`.

    Attributes:
        queries: With the order of axes.
        keys: As queries.
        values: As queries.
        scores: Tensor that is the product of queries and keys.
        scale: On the scores.
        mask: What hides keys, or None.
        result: What it makes.
        order: Of [batch, heads, time, size] or [batch, time, size] in the result.
        nodes: That make it.
    """

    queries: Operand
    keys: Operand
    values: Operand
    scores: str
    scale: float
    mask: Mask | None
    result: str
    order: tuple[int, ...]
    nodes: tuple[str, ...]

    @property
    def operands(self) -> tuple[Operand, Operand, Operand]:
        """Queries, keys and values."""
        return self.queries, self.keys, self.values


@dataclass(frozen=True)
class Hidden:
    """What a mask hides.

    Attributes:
        causal: Whether that is what comes later too.
        lengths: Keys that are left of each memory, where the mask is a constant; None where that is told as it runs.
    """

    causal: bool
    lengths: np.ndarray | None = None


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives attentions; what looks like one is reported."""
    sizes: Sizes | None = None
    for node in list(graph.nodes.values()):
        if node.op != "Softmax" or node.controls or not graph.consumers(f"{node.name}:0"):
            continue
        try:
            attention = _at(graph, node)
            hidden = _hidden(graph, attention, context)
        except NoAttentionError as error:
            context.left_alone(NAME, node.name, str(error))
        except tf.errors.OpError as error:
            context.left_alone(NAME, node.name, f"what its mask hides can not be computed: {type(error).__name__}")
        else:
            sizes = sizes or Sizes(graph)
            _, heads, _, size = _sizes(graph, attention.keys)
            weights = f"{heads} heads of {size}, {_described(attention, hidden)}"
            rewrite = _rewrite(attention, hidden, one_batch=_has_one_batch(sizes, attention))
            yield Place(attention.result, attention.nodes, rewrite, weights)


def _described(attention: Attention, hidden: Hidden) -> str:
    if attention.mask is None:
        return "no mask"
    return "causal mask" if hidden.causal else "mask"


# What is there


def _at(graph: Graph, softmax: Node) -> Attention:
    scores = scores_at(graph, softmax.inputs[0])
    weighted = weighted_at(graph, f"{softmax.name}:0", scores.masks)
    if len(scores.masks) > 1 or scores.transposed:
        raise NoAttentionError("its scores have several masks, or are transposed behind their product")
    if name := _read_elsewhere(graph, [softmax.name, *weighted.nodes[:-1]]):
        raise NoAttentionError(f"{name} is not read by a product alone")
    result, order, behind = _behind_transpose(graph, f"{weighted.product.name}:0", weighted.order)
    nodes = [*behind, *reversed(weighted.nodes), softmax.name, *scores.nodes]
    operands = []
    for operand in (*multiplied(graph, scores.product), weighted.values):
        before, moves = _before_transposes(graph, operand)
        operands.append(before)
        nodes += moves
    heads_and_sizes = {_sizes(graph, each)[1::2] for each in operands}
    if len(heads_and_sizes) > 1 or None in next(iter(heads_and_sizes)):
        raise NoAttentionError(f"heads and their sizes are {sorted(heads_and_sizes, key=str)}; one of each is wanted")
    batches = {_sizes(graph, each)[0] for each in operands} - {None}
    if len(batches) > 1:
        raise NoAttentionError(f"its batches are {sorted(batches, key=str)}; one is wanted")
    if any(graph.dtype(each.tensor) != tf.float32 for each in operands):
        raise NoAttentionError(f"{scores.product.name} is not float32")
    time = _sizes(graph, operands[1])[2]
    if time is not None and time < FEWEST_KEYS:
        raise NoAttentionError(f"it has {time} keys; TensorFlow is as fast where there are fewer than {FEWEST_KEYS}")
    queries, keys, values = operands
    mask = scores.masks[0] if scores.masks else None
    unique = tuple(dict.fromkeys(nodes))
    return Attention(queries, keys, values, f"{scores.product.name}:0", scores.scale, mask, result, order, unique)


def _read_elsewhere(graph: Graph, made: Sequence[str]) -> str:
    """Returns the first of nodes, each of which the next one reads, whose result is read elsewhere too, or ""."""
    for name in made:
        tensor = f"{name}:0"
        if tensor in graph.outputs or len(graph.consumers(tensor)) > 1:
            return name
    return ""


def _before_transposes(graph: Graph, operand: Operand) -> tuple[Operand, list[str]]:
    """Returns an operand before transposes, which only change the order of its axes, and these."""
    moves: list[str] = []
    while True:
        node = graph.producer(operand.tensor)
        moved = graph.constant(node.inputs[1]) if node.op == "Transpose" else None
        if moved is None:
            return operand, moves
        operand = Operand(node.inputs[0], tuple(int(moved[axis]) for axis in operand.order))
        moves.append(node.name)


def _behind_transpose(
    graph: Graph, tensor: str, order: tuple[int, ...]
) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """Returns the result behind a transpose that alone reads it, the order of its axes, and the transpose."""
    readers = graph.consumers(tensor)
    if tensor not in graph.outputs and len(readers) == 1 and readers[0].op == "Transpose":
        moved = graph.constant(readers[0].inputs[1])
        if moved is not None:
            return f"{readers[0].name}:0", tuple(order[axis] for axis in moved), (readers[0].name,)
    return tensor, order, ()


def _sizes(graph: Graph, operand: Operand) -> tuple[int | None, int | None, int | None, int | None]:
    """Returns batch, heads, time and size as far as they are known; one head where there are three axes."""
    shape = graph.shape(operand.tensor)
    if shape is None or len(shape) != len(operand.order):
        raise NoAttentionError(f"the rank of {operand.tensor} is not known")
    sizes = [shape[axis] for axis in operand.order]
    return (sizes[0], 1, *sizes[1:]) if len(sizes) == 3 else tuple(sizes)  # type: ignore[return-value]


def _has_one_batch(sizes: Sizes, attention: Attention) -> bool:
    """Returns whether queries, keys and values have equally many examples, whatever goes in."""
    shapes = [(sizes.of(each.tensor), each.order[0]) for each in attention.operands]
    batches = {None if shape is None else shape[axis] for shape, axis in shapes}
    return len(batches) == 1 and None not in batches


# What is hidden


def _hidden(graph: Graph, attention: Attention, context: Context) -> Hidden:
    """Returns what the mask hides: of a constant for certain, of another in the samples."""
    if attention.mask is None:
        return Hidden(causal=False)
    value, shape = graph.constant(attention.mask.tensor), graph.shape(attention.scores)
    if value is not None and shape is not None and None not in shape[-2:]:
        return _hidden_by_constant(attention.mask, value, shape)
    fits = {False: 0, True: 0}
    for sample in context.samples:
        with Probe(graph, sample) as probe:
            values, scores = probe.run([attention.mask.tensor, attention.scores])
        added = tf.constant(attention.mask.added(values))
        for causal in fits:
            fits[causal] += bool(seen_keys(added, scores.shape, causal=causal)[1])
    causal = fits[True] > fits[False]
    if not fits[causal]:
        raise NoAttentionError(f"{attention.mask.tensor} hides other than ends, and what comes later, in all samples")
    return Hidden(causal)


def _hidden_by_constant(mask: Mask, value: np.ndarray, shape: tuple[int | None, ...]) -> Hidden:
    # The batch that a mask does not have is one along which it is the same.
    sizes = tuple(1 if size is None else size for size in shape)
    for causal in (False, True):
        if value.ndim < len(shape) or value.shape[0] in (1, shape[0]):
            lengths, fits = seen_keys(tf.constant(mask.added(value)), sizes, causal=causal)
            if fits:
                return Hidden(causal, lengths.numpy())
    raise NoAttentionError(f"{mask.tensor} hides other than ends, and what comes later")


# What it becomes


def _rewrite(attention: Attention, hidden: Hidden, *, one_batch: bool) -> Callable[[Graph], str]:
    operands = [each.tensor for each in attention.operands]
    # What a constant hides is known; of another mask, and of how many keys there are, the graph is asked as it runs.
    mask = [attention.mask.tensor] if attention.mask is not None and hidden.lengths is None else []

    def rewrite(graph: Graph) -> str:
        if one_batch and not mask and _sizes(graph, attention.keys)[2] is not None:
            return splice(graph, "attention", lambda *read: _attend(attention, hidden, read, hidden.lengths), operands)
        region, outside = _region(graph, attention)
        read = list(dict.fromkeys([*operands, *mask, *outside]))

        def chosen(*tensors: Any) -> Any:
            given = dict(zip(read, tensors, strict=True))
            used, lengths = [given[name] for name in operands], hidden.lengths
            sizes = _score_sizes(attention, used)
            fits = sizes[-1] >= FEWEST_KEYS
            if not one_batch:
                axes = [each.order[0] for each in attention.operands]
                batches = tf.stack([tf.shape(x)[axis] for x, axis in zip(used, axes, strict=True)])
                fits &= tf.reduce_all(tf.equal(batches, batches[0]))
            if attention.mask is not None and mask:
                added = attention.mask.added(given[attention.mask.tensor])
                lengths, hides = seen_keys(added, sizes, causal=hidden.causal)
                fits &= hides

            def as_it_was() -> Any:
                # What comes from outside a branch must become its own first.
                own = {name: tf.identity(given[name]) for name in outside}
                return tf.graph_util.import_graph_def(region.graph_def(), own, [attention.result], name="attention")[0]

            return tf.cond(fits, lambda: _attend(attention, hidden, used, lengths), as_it_was)

        return splice(graph, "attention", chosen, read)

    return rewrite


def _score_sizes(attention: Attention, operands: Sequence[Any]) -> Any:
    queries = tf.gather(tf.shape(operands[0]), attention.queries.order)
    keys = tf.gather(tf.shape(operands[1]), attention.keys.order)
    batch = tf.maximum(queries[:1], keys[:1])  # one example counts for all of the other's
    return tf.concat([batch, queries[1:-1], keys[-2:-1]], 0)


def _attend(attention: Attention, hidden: Hidden, operands: Sequence[Any], lengths: Any) -> Any:
    """Returns what the operator makes, laid out as the graph's own result was."""
    from optops.kernels.tensorflow import attention as attend

    rank = len(attention.order)
    orders = [each.order for each in attention.operands]
    if rank == 4:
        # Heads beside each other, as the operator takes them.
        orders = [tuple(order[axis] for axis in HEADS_BESIDE) for order in orders]
    laid = [_transposed(x, order) for x, order in zip(operands, orders, strict=True)]
    heads = laid[0].shape[2] if rank == 4 else 1
    width = heads * laid[0].shape[-1]
    rows = [tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], width]) for x in laid] if rank == 4 else laid
    if lengths is not None:
        lengths = tf.broadcast_to(tf.cast(lengths, tf.int32), tf.shape(rows[0])[:1])
    made = attend(*rows, heads=heads, lengths=lengths, causal=hidden.causal, scale=attention.scale)
    if rank == 3:
        return _transposed(made, attention.order)
    made = tf.reshape(made, tf.shape(laid[0]))
    return _transposed(made, tuple(HEADS_BESIDE[axis] for axis in attention.order))


def _transposed(x: Any, order: tuple[int, ...]) -> Any:
    return x if order == tuple(range(len(order))) else tf.transpose(x, order)


def _region(graph: Graph, attention: Attention) -> tuple[Graph, list[str]]:
    """Returns the nodes as a graph of their own, and the tensors that it reads."""
    nodes = {name: replace(graph.nodes[name], controls=()) for name in attention.nodes}
    outside: list[str] = []
    for node in list(nodes.values()):
        for tensor in node.inputs:
            maker = graph.producer(tensor)
            if maker.op == "Const":
                nodes.setdefault(maker.name, replace(maker, controls=()))
            elif producer_of(tensor) not in nodes and tensor not in outside:
                outside.append(tensor)
    return Graph(nodes.values(), (), [attention.result], type(graph.library)(), graph.versions), outside


DOT_PRODUCT_ATTENTION = Pattern(NAME, find, kernels=True)
