"""What a pattern is: a function that finds places in a graph, each with what it becomes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from optops.graph.optimizer.graph import Graph, Node, producer_of
from optops.graph.optimizer.language import Attempt


@dataclass(frozen=True)
class Place:
    """Where a pattern was found.

    Attributes:
        tensor: What is replaced.
        nodes: Names of the nodes that it stands for.
        rewrite: Adds nodes to the graph, and returns the tensor that takes the place.
        weights: Shapes of the weights, or what else there is to say.
    """

    tensor: str
    nodes: tuple[str, ...]
    rewrite: Callable[[Graph], str]
    weights: str = ""


@dataclass(frozen=True)
class NearMiss:
    """What looked like a pattern and was left alone."""

    pattern: str
    node: str
    reason: str


@dataclass
class Context:
    """What patterns may use beside the graph.

    Attributes:
        precision: Of products in the operator library.
        samples: Inputs by placeholder, of several shapes, and what lookup tables give for them, by the lookup's node;
            patterns that prove something run parts of the graph on them.
        near_misses: Where a pattern says what it left alone.
    """

    precision: str = "fp32"
    samples: list[dict[str, Any]] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)

    def left_alone(self, pattern: str, node: str, reason: str) -> None:
        """Keeps what looked like a pattern, once."""
        miss = NearMiss(pattern, node, reason)
        if miss not in self.near_misses:
            self.near_misses.append(miss)

    def nearly(self, pattern: str, node: str, attempt: Attempt, depth: int) -> None:
        """Keeps an attempt that failed after at least `depth` nodes had fitted."""
        if attempt.depth >= depth:
            self.left_alone(pattern, node, attempt.reason)


Find = Callable[[Graph, Context], Iterator[Place]]


@dataclass(frozen=True)
class Pattern:
    """One pattern.

    Attributes:
        name: As reports and pictures show it.
        find: Gives the places in a graph.
        kernels: Whether what it writes needs the operator library.
        reported: Whether every place is listed one by one; tidying is only counted.
    """

    name: str
    find: Find
    kernels: bool = False
    reported: bool = True


@dataclass(frozen=True)
class Rewrite:
    """One place that was rewritten.

    Attributes:
        pattern: Its name.
        tensor: What was replaced.
        before: Nodes that the place stood for.
        after: Nodes that were added.
        weights: Shapes of the weights.
    """

    pattern: str
    tensor: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    weights: str


def apply_place(graph: Graph, pattern: Pattern, place: Place, found_in: Mapping[str, Node]) -> Rewrite | None:
    """Rewrites one place; returns None if what it stands on has changed since, so that it is to be found anew.

    Args:
        graph: Changed.
        pattern: Of the place.
        place: Found in the graph.
        found_in: The nodes that the graph had then.
    """
    for name in (*place.nodes, producer_of(place.tensor)):
        if name not in graph.nodes or (pattern.reported and graph.nodes[name] is not found_in[name]):
            return None
    last = next(reversed(graph.nodes))
    tensor = place.rewrite(graph)
    graph.redirect(place.tensor, tensor)
    # What is added comes behind what was there.
    added = tuple(takewhile(lambda name: name != last, reversed(graph.nodes)))[::-1]
    return Rewrite(pattern.name, place.tensor, place.nodes, added, place.weights)
