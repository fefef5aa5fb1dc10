"""Shapes of tensors that are equally large: the first one is asked, so that what follows from them is the same."""

from collections.abc import Callable, Iterator

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.sizes import Sizes


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives the shape of what is as large as something before it."""
    asked = [node for node in graph.in_order() if node.op == "Shape" and not node.controls]
    # What is in a branch of TensorFlow 1 may never be computed, however large it would be.
    if len(asked) < 2 or any(node.op in ("Switch", "Merge") for node in graph.nodes.values()):
        return
    sizes = Sizes(graph)
    first: dict[object, Node] = {}
    for node in asked:
        found = sizes.of(node.inputs[0])
        known = node if found is None else first.setdefault((found, node.attributes["out_type"].type), node)
        if known is not node:
            yield Place(f"{node.name}:0", (node.name, known.name), _of(known))


def _of(node: Node) -> Callable[[Graph], str]:
    return lambda graph: f"{node.name}:0"


SHAPE = Pattern("shape of the same size", find, reported=False)
