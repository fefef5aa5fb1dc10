"""Forgets in which order nodes run where that makes no difference: inlined calls order all that was in them."""

from dataclasses import replace

from optops.graph.optimizer.graph import Graph, is_pure, producer_of

BRANCHES = ("Switch", "RefSwitch")
"""Of TensorFlow 1: what waits for them runs in one of the branches alone, a constant too."""


def forget_order(graph: Graph) -> None:
    """Removes control inputs behind which nothing has an effect.

    Args:
        graph: Changed.
    """
    effects: dict[str, bool] = {}
    for node in graph.in_order():
        before = (*map(producer_of, node.inputs), *node.controls)
        has_effect = not is_pure(node) or node.op in BRANCHES
        effects[node.name] = has_effect or any(effects[name] for name in before)
        controls = tuple(name for name in node.controls if effects[name])
        if controls != node.controls:
            graph.nodes[node.name] = replace(node, controls=controls)
