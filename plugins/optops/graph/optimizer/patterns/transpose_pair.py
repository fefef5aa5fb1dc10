"""Two transposes in a row become one, or none if the second undoes the first."""

from collections.abc import Callable, Iterator

import numpy as np

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.language import Constant, Op, Tensor
from optops.graph.optimizer.language import find as match
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

PAIR = Op("Transpose", (Op("Transpose", (Tensor("x"), Constant("first"))), Constant("second")))


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives the second of two transposes."""
    for node in graph.nodes.values():
        if node.op != "Transpose" or node.controls:
            continue
        found = match(graph, PAIR, f"{node.name}:0")
        if found:
            order = found.constants["first"][found.constants["second"]]
            yield Place(f"{node.name}:0", found.nodes, _ordered(found.tensors["x"], order))


def _ordered(source: str, order: np.ndarray) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        if np.array_equal(order, np.arange(order.size)):
            return source
        return splice(graph, "transpose", lambda x: tf.transpose(x, order), [source])

    return rewrite


TRANSPOSE_PAIR = Pattern("transpose pair", find)
