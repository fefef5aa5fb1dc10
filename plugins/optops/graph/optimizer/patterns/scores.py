"""What is around the softmax of an attention: product, scale and masks before it, the product with values behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, text
from optops.graph.optimizer.patterns.mask import HIDES, SELECTS, Mask, choice, zeroes_hidden
from optops.graph.optimizer.patterns.product import einsum_labels
from optops.graph.optimizer.patterns.scaling import PRODUCTS, SUMS, scaled, scores_first, shifted
from optops.graph.optimizer.rows import KEEPS_VALUES


class NoAttentionError(Exception):
    """Why something around a softmax is no attention that can be fused."""


@dataclass(frozen=True)
class Operand:
    """A tensor, and the order of its axes that gives [batch, heads, time, size], or [..., time, size] of three."""

    tensor: str
    order: tuple[int, ...]

    def arranged(self, array: np.ndarray) -> np.ndarray:
        """Returns an array of the tensor in that order."""
        return array.transpose(self.order)


@dataclass(frozen=True)
class Scores:
    """What a softmax reads: `product * scale`, masked.

    Attributes:
        product: Of queries and keys, or of keys and queries if it is transposed behind.
        transposed: Whether it is.
        scale: What it is multiplied by.
        masks: That hide keys; one is seen where all of them say so.
        nodes: That make it.
    """

    product: Node
    transposed: bool
    scale: float
    masks: tuple[Mask, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Weighted:
    """What is made of a softmax: its product with values.

    Attributes:
        product: That makes it.
        values: The other operand.
        order: Of the axes [batch, heads, time, size], or [..., time, size] of three, in the result.
        nodes: From the softmax on, with the product.
    """

    product: Node
    values: Operand
    order: tuple[int, ...]
    nodes: tuple[str, ...]


def scores_at(graph: Graph, tensor: str) -> Scores:
    """Returns what a tensor is, if it is made of scores.

    Raises:
        NoAttentionError: Names the node that is none of an attention's.
    """
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
    return order is not None and order.tolist() == list(_swapped(order.size))


def _swapped(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)


def _scaled(graph: Graph, node: Node) -> tuple[str, float]:
    found = scaled(graph, node)
    if found is not None:
        return found
    if node.op in ("Mul", "RealDiv"):
        raise NoAttentionError(f"{node.name} ({node.op}) multiplies the scores by what is no constant number")
    raise NoAttentionError(f"{node.name} ({node.op}) stands between the softmax and a product of queries and keys")


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


def multiplied(graph: Graph, node: Node) -> tuple[Operand, Operand]:
    """Returns the operands of the product that makes scores [..., queries, keys]: queries, then keys.

    Raises:
        NoAttentionError: If it makes something else.
    """
    if node.op != "Einsum":
        straight = _axes(graph, node)
        swapped = _swapped(len(straight))
        queries, keys = node.inputs
        return (
            Operand(queries, swapped if node.attributes["adj_x"].b else straight),
            Operand(keys, straight if node.attributes["adj_y"].b else swapped),
        )
    labels, result = _labels(graph, node)
    *batch, query, key = list(result)
    first, second = (0, 1) if query in labels[0] else (1, 0)
    summed = [label for label in labels[first] if label not in result]
    return (
        _ordered(node, first, labels[first], [*batch, query, *summed]),
        _ordered(node, second, labels[second], [*batch, key, *summed]),
    )


def _axes(graph: Graph, node: Node) -> tuple[int, ...]:
    """Returns the axes of what a product multiplies."""
    ranks = {len(shape) for read in node.inputs if (shape := graph.shape(read)) is not None}
    if len(ranks) != 1 or not ranks <= {3, 4}:
        raise NoAttentionError(f"{node.name} multiplies tensors of {' and '.join(map(str, ranks)) or 'unknown'} axes")
    return tuple(range(ranks.pop()))


def _labels(graph: Graph, node: Node) -> tuple[list[str], str]:
    labels, result = einsum_labels(graph, node)
    if len(labels) != 2 or len(result) not in (3, 4):
        raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) is no product of an attention")
    return labels, result


def _ordered(node: Node, index: int, labels: str, wanted: Sequence[str]) -> Operand:
    if sorted(wanted) != sorted(labels):
        raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) is no product of an attention")
    return Operand(node.inputs[index], tuple(labels.index(label) for label in wanted))


def weighted_at(graph: Graph, tensor: str, masks: tuple[Mask, ...]) -> Weighted:
    """Returns the product that reads the weights which a softmax makes; what else reads them does not count.

    Args:
        graph: Not changed.
        tensor: The weights.
        masks: Of the scores; where they hide a key, its weight may be set to zero once more.

    Raises:
        NoAttentionError: If there is no such product, or several.
    """
    nodes: list[str] = []
    while True:
        readers = [node for node in graph.consumers(tensor) if node.op != "Shape"]
        products = [node for node in readers if node.op in PRODUCTS]
        if len(products) == 1:
            values, order = _values(graph, products[0], tensor)
            return Weighted(products[0], values, order, (*nodes, products[0].name))
        if len(readers) != 1 or not (readers[0].op in KEEPS_VALUES or zeroes_hidden(graph, readers[0], masks)):
            read = ", ".join(reader.op for reader in readers) or "nothing"
            raise NoAttentionError(f"{tensor} is read by {read}, not by a product")
        nodes.append(readers[0].name)
        tensor = f"{readers[0].name}:0"


def _values(graph: Graph, node: Node, weights: str) -> tuple[Operand, tuple[int, ...]]:
    """Returns the values of a product, and the order of its result's axes."""
    if node.op != "Einsum":
        if node.inputs[0] != weights or node.attributes["adj_x"].b:
            raise NoAttentionError(f"{node.name} is no product of weights and values")
        straight = _axes(graph, node)
        return Operand(node.inputs[1], _swapped(len(straight)) if node.attributes["adj_y"].b else straight), straight
    labels, result = _labels(graph, node)
    place = 0 if node.inputs[0] == weights else 1
    *batch, query, key = list(labels[place])
    size = [label for label in labels[1 - place] if label not in (*batch, key)]
    if len(size) != 1 or sorted(result) != sorted([*batch, query, *size]):
        raise NoAttentionError(f"{node.name} ({text(node, 'equation')}) is no product of weights and values")
    values = _ordered(node, 1 - place, labels[1 - place], [*batch, key, *size])
    return values, tuple([*batch, query, *size].index(label) for label in result)
