"""Reshapes in a row: the last alone decides, so the others are skipped."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.rows import KEEPS_ORDER


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives reshapes of what only changed its shape before."""
    for node in graph.nodes.values():
        if node.op != "Reshape" or node.controls:
            continue
        source = node.inputs[0]
        chain = []
        while graph.producer(source).op in KEEPS_ORDER and not graph.producer(source).controls:
            chain.append(graph.producer(source).name)
            source = graph.producer(source).inputs[0]
        last = not all(reader.op in KEEPS_ORDER for reader in graph.consumers(f"{node.name}:0"))
        if chain and (last or f"{node.name}:0" in graph.outputs):
            yield Place(f"{node.name}:0", (node.name, *chain), _direct(node, source))


def _direct(node: Node, source: str) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        name = graph.free_name(f"{node.name}/direct")
        graph.add(replace(node, name=name, inputs=(source, node.inputs[1])))
        return f"{name}:0"

    return rewrite


RESHAPE_CHAIN = Pattern("reshape chain", find)
