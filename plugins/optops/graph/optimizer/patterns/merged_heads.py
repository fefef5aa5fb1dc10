"""Attention whose heads are in one axis with the batch gets them an axis of their own, as other patterns read it.

So are BART, Marian and Pegasus written: products [batch * heads, time, size], and scores that are [batch, heads,
queries, keys] for their mask alone and merged again before the softmax.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.patterns.mask import SELECTS
from optops.graph.optimizer.patterns.scaling import SUMS, shifted
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.rows import KEEPS_VALUES
from optops.graph.optimizer.sizes import JoinedSizes, Sizes
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")


@dataclass(frozen=True)
class Merged:
    """An attention over merged heads.

    Attributes:
        scores: The product of queries and keys, [batch * heads, queries, keys].
        split: The reshape of it to [batch, heads, queries, keys].
        masked: Tensor of that shape that is merged again.
        softmax: Of what is merged.
        weighted: The product of the softmax and values, [batch * heads, queries, size].
        nodes: From `masked` to `weighted`.
    """

    scores: Node
    split: Node
    masked: str
    softmax: Node
    weighted: Node
    nodes: tuple[str, ...]


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives, of each such attention, the split scores and the product with the values."""
    found = [merged for node in graph.nodes.values() if (merged := _at(graph, node)) is not None]
    if not found:
        return
    sizes = JoinedSizes(graph)
    for merged in found:
        if _only_leading_axes(sizes, merged):
            split = f"{merged.split.name}:0"
            yield Place(split, (merged.split.name, merged.scores.name), _scores(graph, sizes, merged))
            yield Place(f"{merged.weighted.name}:0", merged.nodes, _weighted(graph, sizes, merged))


def _at(graph: Graph, softmax: Node) -> Merged | None:
    if softmax.op != "Softmax" or softmax.controls:
        return None
    tensor, nodes = softmax.inputs[0], [softmax.name]
    while (node := graph.producer(tensor)).op != "Reshape":
        nodes.append(node.name)
        rest = node.inputs[0] if node.op in KEEPS_VALUES else shifted(graph, node)
        if rest is None:  # what one number is added to is the same to a softmax
            return None
        tensor = rest
    nodes.append(node.name)
    split = _split_at(graph, node.inputs[0])
    readers = graph.consumers(f"{softmax.name}:0")
    if split is None or len(readers) != 1 or f"{softmax.name}:0" in graph.outputs:
        return None
    weighted = readers[0]
    if weighted.op not in PRODUCTS or weighted.inputs[0] != f"{softmax.name}:0" or weighted.attributes["adj_x"].b:
        return None
    scores = graph.producer(split.inputs[0])
    return Merged(scores, split, node.inputs[0], softmax, weighted, (weighted.name, *nodes))


def _split_at(graph: Graph, tensor: str) -> Node | None:
    """Returns the reshape of a product that masked scores begin with."""
    todo = [tensor]
    while todo:
        node = graph.producer(todo.pop())
        if node.op == "Reshape" and graph.producer(node.inputs[0]).op in PRODUCTS and not node.controls:
            return node
        if node.op in (*SUMS, *SELECTS, *KEEPS_VALUES):
            todo += node.inputs
    return None


def _only_leading_axes(sizes: Sizes, merged: Merged) -> bool:
    """Returns whether reshapes split and merge batch and heads alone.

    Products of several heads have as many in both operands: one of 1 would be repeated.
    """
    split, before = sizes.of(f"{merged.split.name}:0"), sizes.of(merged.split.inputs[0])
    masked, after = sizes.of(merged.masked), sizes.of(merged.softmax.inputs[0])
    if not (split and before and masked and after) or (len(split), len(before), len(after)) != (4, 3, 3):
        return False
    several = isinstance(split[1], int) and split[1] > 1
    return several and masked == split and split[2:] == before[1:] == after[1:]


def _scores(graph: Graph, sizes: Sizes, merged: Merged) -> Callable[[Graph], str]:
    turned = merged.scores.attributes["adj_x"].b, merged.scores.attributes["adj_y"].b
    queries, keys = (_apart(graph, sizes, merged, tensor) for tensor in merged.scores.inputs)

    def multiply(x: Any, y: Any, shape: Any) -> Any:
        return tf.matmul(queries.split(x, shape), keys.split(y, shape), transpose_a=turned[0], transpose_b=turned[1])

    return lambda graph: splice(graph, "scores", multiply, [queries.tensor, keys.tensor, merged.split.inputs[1]])


def _weighted(graph: Graph, sizes: Sizes, merged: Merged) -> Callable[[Graph], str]:
    turned = merged.weighted.attributes["adj_y"].b
    values = _apart(graph, sizes, merged, merged.weighted.inputs[1])

    def multiply(masked: Any, x: Any, shape: Any) -> Any:
        made = tf.matmul(tf.nn.softmax(masked), values.split(x, shape), transpose_b=turned)
        return tf.reshape(made, [-1, *_axes(made, 2, 3)])

    return lambda graph: splice(graph, "weighted", multiply, [merged.masked, values.tensor, merged.split.inputs[1]])


@dataclass(frozen=True)
class Apart:
    """Where [batch, heads, ...] of what is [batch * heads, ...] come from: what was merged, where that is known.

    Attributes:
        tensor: Of the graph.
        heads: How many there are, where the tensor is still to be split.
    """

    tensor: str
    heads: int | None

    def split(self, x: Any, shape: Any) -> Any:
        """Returns the tensor's value as [batch, heads, ...], by the shape of the scores."""
        return x if self.heads is None else tf.reshape(x, [shape[0], self.heads, *_axes(x, 1, 2)])


def _apart(graph: Graph, sizes: Sizes, merged: Merged, tensor: str) -> Apart:
    node, own, split = graph.producer(tensor), sizes.of(tensor), sizes.of(f"{merged.split.name}:0")
    assert own and split and isinstance(split[1], int)
    if node.op == "Reshape" and sizes.of(node.inputs[0]) == (*split[:2], *own[1:]):
        return Apart(node.inputs[0], None)
    return Apart(tensor, split[1])


def _axes(x: Any, *axes: int) -> list[Any]:
    """Returns the sizes of axes, as numbers where they are known."""
    return [tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis] for axis in axes]


MERGED_HEADS = Pattern("merged heads", find, reported=False)
