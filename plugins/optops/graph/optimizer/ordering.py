"""Forgets in which order nodes run where that makes no difference: inlined calls order all that was in them."""

from dataclasses import replace

from optops.graph.optimizer.graph import Graph, is_pure, producer_of


def forget_order(graph: Graph) -> None:
    """Removes control inputs behind which nothing has an effect.

    Args:
        graph: Changed.
    """
    effects: dict[str, bool] = {}
    for node in graph.in_order():
        before = (*map(producer_of, node.inputs), *node.controls)
        effects[node.name] = not is_pure(node) or any(effects[name] for name in before)
        controls = tuple(name for name in node.controls if effects[name])
        if controls != node.controls:
            graph.nodes[node.name] = replace(node, controls=controls)
