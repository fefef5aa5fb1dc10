"""A small language of patterns: what a part of a graph looks like, and what of it is to be captured."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph, Node


@dataclass(frozen=True)
class Tensor:
    """Any tensor, captured under a name; a name that is there already must be the same tensor."""

    name: str


@dataclass(frozen=True)
class Constant:
    """A constant, captured under a name.

    Attributes:
        name: Of the capture.
        where: Says whether the value is one that is looked for.
        what: Says it for people.
    """

    name: str
    where: Callable[[np.ndarray], bool] = lambda value: True
    what: str = "a constant"


@dataclass(frozen=True)
class Op:
    """An operator and what its inputs look like.

    Attributes:
        types: Names of operators, separated by `|`.
        inputs: A pattern for each input; fewer than there are leave the last ones open.
        name: Captures the output under this name.
        attributes: Name to value, as a string, a number or a truth value.
        commutative: Whether the inputs may stand in either order.
        where: A further condition on graph and node; returns why it is not met, or None.
        output: Which output of the operator is meant.
    """

    types: str
    inputs: tuple[Any, ...] = ()
    name: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    commutative: bool = False
    where: Callable[[Graph, Node], str | None] | None = None
    output: int = 0


@dataclass(frozen=True)
class OneOf:
    """The first alternative that fits, and where the rest does not fit then, the next."""

    alternatives: tuple[Any, ...]


@dataclass(frozen=True)
class Through:
    """What is meant, perhaps behind operators that may or may not be there.

    Attributes:
        types: Names of those operators with one data input, separated by `|`.
        pattern: What is meant.
    """

    types: str
    pattern: Any


@dataclass(frozen=True)
class Match:
    """Where a pattern fits.

    Attributes:
        tensors: What was captured.
        constants: What was captured of constants.
        nodes: Names of the nodes that the pattern names, the output's first.
    """

    tensors: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()


@dataclass
class Attempt:
    """What a search for a pattern came to: the deepest place where it failed.

    Attributes:
        depth: Nodes that fitted before.
        reason: What did not fit then.
    """

    depth: int = 0
    reason: str = ""

    def failed(self, match: Match, reason: str) -> None:
        """Keeps the reason if nothing got deeper."""
        if len(match.nodes) > self.depth:
            self.depth, self.reason = len(match.nodes), reason


def find(graph: Graph, pattern: Any, tensor: str, attempt: Attempt | None = None) -> Match | None:
    """Returns the first way in which a pattern fits a tensor, or None; `attempt` then says why."""
    return next(_fit(graph, pattern, tensor, Match(), attempt or Attempt()), None)


def _fit(graph: Graph, pattern: Any, tensor: str, match: Match, attempt: Attempt) -> Iterator[Match]:
    if isinstance(pattern, Op):
        yield from _fit_op(graph, pattern, tensor, match, attempt)
    elif isinstance(pattern, OneOf):
        for alternative in pattern.alternatives:
            yield from _fit(graph, alternative, tensor, match, attempt)
    elif isinstance(pattern, Through):
        yield from _fit(graph, pattern.pattern, tensor, match, attempt)
        node = graph.producer(tensor)
        if node.op in pattern.types.split("|"):
            inside = Match(match.tensors, match.constants, (*match.nodes, node.name))
            yield from _fit(graph, pattern, node.inputs[0], inside, attempt)
    elif isinstance(pattern, Constant):
        yield from _fit_constant(graph, pattern, tensor, match, attempt)
    else:
        yield from _captured(pattern.name, tensor, match, attempt)


def _captured(name: str, tensor: str, match: Match, attempt: Attempt) -> Iterator[Match]:
    known = match.tensors.get(name, tensor)
    if known == tensor:
        yield Match({**match.tensors, name: tensor}, match.constants, match.nodes)
    else:
        attempt.failed(match, f"{name} is {known} in one place and {tensor} in another")


def _fit_constant(graph: Graph, pattern: Constant, tensor: str, match: Match, attempt: Attempt) -> Iterator[Match]:
    value = graph.constant(tensor)
    if value is None:
        attempt.failed(match, f"{tensor} is computed; {pattern.what} is wanted for {pattern.name}")
    elif not pattern.where(value):
        attempt.failed(match, f"{tensor} has shape {list(value.shape)}; {pattern.what} is wanted for {pattern.name}")
    else:
        known = match.constants.get(pattern.name)
        if known is None or np.array_equal(known, value):
            yield Match(match.tensors, {**match.constants, pattern.name: value}, match.nodes)
        else:
            attempt.failed(match, f"{pattern.name} has two values")


def _fit_op(graph: Graph, pattern: Op, tensor: str, match: Match, attempt: Attempt) -> Iterator[Match]:
    node = graph.producer(tensor)
    reason = _refused(graph, pattern, node, tensor)
    if reason:
        attempt.failed(match, reason)
        return
    inside = Match(match.tensors, match.constants, (*match.nodes, node.name))
    if pattern.name:
        inside = Match({**inside.tensors, pattern.name: tensor}, inside.constants, inside.nodes)
    orders = [node.inputs]
    if pattern.commutative:
        orders.append(node.inputs[::-1])
    for order in orders:
        yield from _fit_inputs(graph, pattern.inputs, order, inside, attempt)


def _refused(graph: Graph, pattern: Op, node: Node, tensor: str) -> str | None:
    if node.op not in pattern.types.split("|"):
        return f"{node.name} is {node.op}; {pattern.types} is wanted"
    if not tensor.endswith(f":{pattern.output}"):
        return f"{tensor} is another output than {pattern.output}"
    if len(node.inputs) < len(pattern.inputs):
        return f"{node.name} has {len(node.inputs)} inputs; {len(pattern.inputs)} are wanted"
    for name, wanted in pattern.attributes.items():
        if name in node.attributes and _value(node.attributes[name]) != wanted:
            return f"{node.name} has {name}={_value(node.attributes[name])}; {wanted} is wanted"
    return pattern.where(graph, node) if pattern.where else None


def _value(attribute: Any) -> Any:
    kind = attribute.WhichOneof("value")
    value = getattr(attribute, kind) if kind else None
    return value.decode() if isinstance(value, bytes) else value


def _fit_inputs(
    graph: Graph, patterns: tuple[Any, ...], tensors: tuple[str, ...], match: Match, attempt: Attempt
) -> Iterator[Match]:
    if not patterns:
        yield match
        return
    for fitted in _fit(graph, patterns[0], tensors[0], match, attempt):
        yield from _fit_inputs(graph, patterns[1:], tensors[1:], fitted, attempt)
