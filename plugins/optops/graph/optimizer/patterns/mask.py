"""What hides keys from queries: numbers added to the scores, or truth values that choose between a score and a number.

Whether it hides the ends of sentences and nothing else can not be told from the graph for certain; its values say so.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from optops.graph.optimizer.graph import Graph, Node
from optops.models.keras import tf

HIDES = -1000.0
"""What is added to a score so that exp gives zero beside any score of a usable model."""
SELECTS = ("Select", "SelectV2")


@dataclass(frozen=True)
class Mask:
    """One tensor that broadcasts to the scores [batch, heads, queries, keys].

    Attributes:
        tensor: float32 numbers that are added to the scores, or truth values.
        factor: What the numbers are multiplied by before.
        seen: The truth value with which a score stays what it is; None for numbers.
    """

    tensor: str
    factor: float = 1.0
    seen: bool | None = None

    def added(self, values: Any) -> Any:
        """Returns what values of the tensor add to the scores, float32: at most `HIDES` instead of a choice."""
        if self.seen is None:
            return values if self.factor == 1.0 else values * self.factor
        return tf.where(values if self.seen else tf.logical_not(values), 0.0, HIDES)


def choice(graph: Graph, node: Node) -> tuple[str, float, tuple[Mask, ...]] | None:
    """Returns a tensor that a select chooses, the number in its place elsewhere, and the masks that decide; or None."""
    decides, *chosen = node.inputs
    for seen, (read, other) in ((True, chosen), (False, chosen[::-1])):
        value = graph.constant(other)
        if value is not None and value.size == 1:
            return read, float(value.reshape(())), tuple(_decisions(graph, decides, seen))
    return None


def zeroes_hidden(graph: Graph, node: Node, masks: Collection[Mask]) -> bool:
    """Returns whether a node makes zeros of weights that are zero already, as masks hide their keys."""
    chosen = choice(graph, node) if node.op in SELECTS else None
    return chosen is not None and chosen[1] == 0 and set(chosen[2]) <= set(masks)


def _decisions(graph: Graph, tensor: str, seen: bool) -> list[Mask]:
    """Returns the masks that all must say that a key is seen, where `tensor == seen` says it."""
    node = graph.producer(tensor)
    if node.op == "LogicalNot":
        return _decisions(graph, node.inputs[0], not seen)
    if node.op == ("LogicalAnd" if seen else "LogicalOr"):
        return [mask for read in node.inputs for mask in _decisions(graph, read, seen)]
    if node.op == "Fill" and (value := graph.constant(node.inputs[1])) is not None and bool(value) == seen:
        return []
    return [Mask(tensor, seen=seen)]


def hidden_ends(masks: Sequence[Any], sizes: Any, *, all_positions: bool) -> tuple[Any, Any]:
    """Returns how many positions masks leave of each sentence, and whether they hide their ends and nothing else.

    What hidden queries see does not count.

    Args:
        masks: float32 of rank 4 each; they broadcast to the scores [batch, heads, queries, keys] and are added to them.
        sizes: Of the states, int32 [3]: batch, time, width.
        all_positions: Whether a sentence with something hidden is not to count as one.
    """
    # The least of several that are all at most 0 hides what one of them hides, and nothing else.
    least = reduce(tf.minimum, masks)
    seen = tf.equal(least, 0.0)
    clear = seen | tf.less_equal(least, HIDES)
    # Not a slice alone: of sentences without positions there is no first query.
    one = tf.reduce_any(seen[:, :1, :1, :], axis=2, keepdims=True)
    first = tf.broadcast_to(one, tf.stack([sizes[0], 1, 1, sizes[1]]))
    lengths = tf.reduce_sum(tf.cast(first[:, 0, 0, :], tf.int32), axis=1)
    before_end = tf.sequence_mask(lengths, sizes[1])
    hidden_queries = tf.logical_not(before_end)[:, None, : tf.shape(least)[2], None]
    fits = tf.reduce_all(hidden_queries | clear & tf.equal(seen, before_end[:, None, None, :]))
    fits &= tf.reduce_all(lengths > 0)
    if len(masks) > 1:
        fits &= tf.reduce_all([tf.reduce_all(tf.less_equal(mask, 0.0)) for mask in masks])
    if all_positions:
        fits &= tf.reduce_all(first)
    return tf.maximum(lengths, 1), fits


def seen_keys(added: Any, sizes: Any, *, causal: bool) -> tuple[Any, Any]:
    """Returns how many keys a mask leaves of each memory, and whether it hides what is behind them and nothing else.

    Args:
        added: float32 that broadcasts to the scores, and is added to them.
        sizes: Of the scores, [batch, heads, queries, keys] or [batch, queries, keys].
        causal: Whether a query t is to see the keys 0 to t alone.

    Returns:
        int32 [batch], and a truth value.
    """
    rank = sizes.shape[0] if tf.is_tensor(sizes) else len(sizes)
    if rank == 3:
        sizes = tf.stack([sizes[0], 1, sizes[1], sizes[2]])
        added = tf.expand_dims(added, 1) if added.shape.rank == 3 else added
    added = tf.reshape(added, tf.concat([[1] * (4 - added.shape.rank), tf.shape(added)], 0))
    batch, queries, keys = sizes[0], sizes[2], sizes[3]
    seen = tf.equal(added, 0.0)
    last = tf.broadcast_to(tf.reduce_any(seen[:, 0, -1:], axis=1), tf.stack([batch, keys]))
    lengths = tf.reduce_sum(tf.cast(last, tf.int32), axis=1)
    expected = tf.sequence_mask(lengths, keys)[:, None, None, :]
    fits = tf.reduce_all(lengths > 0) & (queries > 0)
    if causal:
        expected &= tf.range(keys)[None, :] <= tf.range(queries)[:, None]
        fits &= tf.equal(queries, keys)
    fits &= tf.reduce_all(tf.equal(seen, expected) & (seen | tf.less_equal(added, HIDES)))
    return lengths, fits
